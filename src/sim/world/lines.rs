//! What the receptor of a host makes of a body of lines.

use super::*;

impl World {
    /// The receptor's part of one body of lines.
    pub(super) fn lines(
        &mut self,
        from: usize,
        life: u32,
        lane: LaneId,
        to: usize,
        shipment: ShipmentId,
        lines: &[Bytes],
    ) {
        if self.hosts[to].node.is_none() || self.chance(self.faults.loss) {
            return self.lose(from, life, lane, to, shipment);
        }
        let (wall, mut known, mut arrived) = (self.moment().wall, Vec::new(), Vec::new());
        for line in lines {
            match self.open(to, line, wall) {
                Ok(one) => {
                    known.push(None);
                    arrived.push(one);
                }
                Err(outcome) => known.push(Some(outcome)),
            }
        }
        let neighbour = self.hosts[from].key.id();
        self.carry_again(to, neighbour, lines, &mut known);
        let host = &mut self.hosts[to];
        let ticket = host.ticket();
        host.answers.insert(ticket, Asker::Peer { host: from, life, lane, shipment, known });
        let to_life = host.life;
        self.feed(to, to_life, Input::Received { ticket, from: Some(neighbour), arrived });
    }

    /// Lines that are durable there already, and that it is asked to carry on.
    fn carry_again(&mut self, to: usize, from: NodeId, lines: &[Bytes], known: &mut [Option<Outcome>]) {
        let asked = lines.iter().zip(known.iter()).enumerate().filter_map(|(i, (line, known))| {
            let line = Line::split(line).ok().filter(|line| line.duty)?;
            matches!(known, Some(Outcome::Duplicate)).then(|| (i, line.digest()))
        });
        let (places, events): (Vec<usize>, Vec<Digest>) = asked.unzip();
        if events.is_empty() {
            return;
        }
        let ticket = self.hosts[to].ticket();
        self.hosts[to].answers.insert(ticket, Asker::Again);
        let life = self.hosts[to].life;
        self.feed(to, life, Input::Again { ticket, from, events });
        for (i, outcome) in places.into_iter().zip(std::mem::take(&mut self.again)) {
            known[i] = Some(outcome);
        }
    }

    fn open(&self, host: usize, line: &Bytes, wall: Wall) -> Result<Arrived, Outcome> {
        let refused = |rejection: Rejection| Outcome::Refused(rejection);
        let split = Line::split(line).map_err(refused)?;
        match self.hosts[host].disk.seen(&split.digest()) {
            Some(Seen::Stored) => return Err(Outcome::Duplicate),
            Some(Seen::Refused(code)) => return Err(refused(Rejection::again(code))),
            None => {}
        }
        let (hops, duty) = (split.hops, split.duty);
        let opened = envelope::open(line, wall, &Network::default(), &mut Keys::default()).map_err(refused)?;
        Ok(Arrived { envelope: opened, hops, duty })
    }
}
