//! The order in which the entries of a zone are tried (RFC 2782, "Usage rules").

use crate::wire::zone::Service;

/// Lower priorities first; within one, drawn by weight without putting back, those of weight 0 with a
/// small chance. `draw(most)` is the chance: a number from 0 to `most`, both included, each as likely.
pub fn order(mut services: Vec<Service>, mut draw: impl FnMut(u32) -> u32) -> Vec<Service> {
    // Within a priority those of weight 0 stand first, as the RFC has it, so that a draw of 0 is theirs.
    services.sort_by_key(|service| (service.priority, service.weight != 0));
    let mut ordered = Vec::with_capacity(services.len());
    while let Some(priority) = services.first().map(|service| service.priority) {
        let rivals = services.iter().take_while(|service| service.priority == priority);
        let sum = rivals.map(|service| u32::from(service.weight)).fold(0, u32::saturating_add);
        let drawn = draw(sum).min(sum);
        let mut running = 0u32;
        let chosen = services.iter().position(|service| {
            running = running.saturating_add(u32::from(service.weight));
            running >= drawn
        });
        ordered.push(services.remove(chosen.expect("the running sum of a priority reaches its sum")));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, target: &str) -> Service {
        Service::new(priority, weight, 7443, target).expect("a service")
    }

    fn names(services: &[Service]) -> Vec<&str> {
        services.iter().filter_map(Service::target).collect()
    }

    #[test]
    fn priorities_come_first_and_draws_decide_within_one() {
        let services = vec![service(20, 9, "late"), service(10, 1, "a"), service(10, 0, "zero"), service(10, 3, "b")];
        let mut asked = Vec::new();
        let lowest = order(services.clone(), |most| {
            asked.push(most);
            0
        });
        assert_eq!(names(&lowest), ["zero", "a", "b", "late"], "a draw of 0 is for weight 0");
        assert_eq!(asked, [4, 4, 3, 9]);
        assert_eq!(names(&order(services.clone(), |most| most)), ["b", "a", "zero", "late"]);
        assert_eq!(names(&order(services, |_| u32::MAX)), ["b", "a", "zero", "late"], "no draw is out of range");
    }

    #[test]
    fn the_first_place_goes_by_weight() {
        let services = vec![service(1, 1, "light"), service(1, 9, "heavy"), service(1, 0, "zero")];
        let mut rng = fastrand::Rng::with_seed(7);
        let mut firsts = [0u32; 3];
        for _ in 0..11_000 {
            let ordered = order(services.clone(), |most| rng.u32(0..=most));
            let first = ["light", "heavy", "zero"].iter().position(|name| *name == names(&ordered)[0]);
            firsts[first.expect("one of them")] += 1;
        }
        // Draws are 0..=10: one is for zero, one for light, nine for heavy.
        assert!(firsts[0].abs_diff(1_000) < 150 && firsts[1].abs_diff(9_000) < 150, "{firsts:?}");
        assert!(firsts[2].abs_diff(1_000) < 150, "{firsts:?}");
    }

    #[test]
    fn nothing_is_lost_and_nothing_overflows() {
        let services: Vec<Service> =
            (0..=255u16).map(|number| service(number % 3, u16::MAX, &format!("host-{number}"))).collect();
        let mut ordered = order(services.clone(), |most| most / 2);
        assert!(ordered.is_sorted_by_key(|service| service.priority));
        ordered.sort();
        let mut all = services;
        all.sort();
        assert_eq!(ordered, all);
        assert!(order(Vec::new(), |most| most).is_empty());
    }
}
