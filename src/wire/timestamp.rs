//! Times on the wire: RFC 3339 with capital `T`, `Z` or `±hh:mm`, seconds 00-59, at most nine decimals.
//!
//! The shape is checked byte by byte, since date libraries read far more than this; the calendar is jiff's.

use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::time::Wall;

/// Reads a time of the wire; anything finer than a microsecond is cut off.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<Wall, &'static str> {
    const SHAPE: &str = "expected RFC 3339 such as 2026-11-21T06:41:02.123456Z";
    const DATE: &str = "no such date or time";
    let bytes = text.as_bytes();
    let shaped =
        bytes.len() >= 20 && (bytes[4], bytes[7], bytes[10], bytes[13], bytes[16]) == (b'-', b'-', b'T', b':', b':');
    if !shaped {
        return Err(SHAPE);
    }
    let number = |from: usize, to: usize| digits(&bytes[from..to]).ok_or(SHAPE);
    let small = |from: usize| number(from, from + 2).map(|value| value as i8);
    let (fraction, zone) = split_fraction(&bytes[19..]).ok_or(SHAPE)?;
    let nanos = digits(fraction).ok_or(SHAPE)? * 10i32.pow(9 - fraction.len() as u32);
    let civil = DateTime::new(number(0, 4)? as i16, small(5)?, small(8)?, small(11)?, small(14)?, small(17)?, nanos)
        .map_err(|_| DATE)?;
    let offset = parse_zone(zone).ok_or(SHAPE)?;
    let moment = offset.to_timestamp(civil).map_err(|_| DATE)?;
    Ok(Wall(moment.as_microsecond()))
}

/// Writes a time as this node signs it: UTC, six decimals.
pub fn format(wall: Wall) -> String {
    let moment = jiff::Timestamp::from_microsecond(wall.0).unwrap_or(jiff::Timestamp::MAX);
    format!("{moment:.6}")
}

/// The decimal value of up to nine digits; `None` when one is not a digit.
fn digits(bytes: &[u8]) -> Option<i32> {
    bytes.iter().try_fold(0i32, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i32::from(byte - b'0')))
}

/// What follows the seconds, cut into decimals (1-9, or none at all) and the zone.
fn split_fraction(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(rest) = rest.strip_prefix(b".") else { return Some((&[], rest)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=9).contains(&count).then(|| rest.split_at(count))
}

fn parse_zone(zone: &[u8]) -> Option<Offset> {
    if zone == b"Z" {
        return Some(Offset::UTC);
    }
    let (&sign, rest) = zone.split_first()?;
    if rest.len() != 5 || rest[2] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(&rest[..2])?, digits(&rest[3..])?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 60 + minutes) * 60;
    match sign {
        b'+' => Offset::from_seconds(seconds).ok(),
        b'-' => Offset::from_seconds(-seconds).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_the_wire_are_read() {
        let expected = Wall(1_795_243_262_123_456);
        for text in [
            "2026-11-21T06:41:02.123456Z",
            "2026-11-21T06:41:02.123456789Z",
            "2026-11-21T06:41:02.123456+00:00",
            "2026-11-21T08:11:02.123456+01:30",
            "2026-11-21T05:41:02.123456-01:00",
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        assert_eq!(parse("1969-12-31T23:59:59Z"), Ok(Wall(-1_000_000)));
        assert_eq!(parse("2024-02-29T00:00:00Z").map(Wall::as_secs), Ok(1_709_164_800));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21t06:41:02Z",
            "2026-11-21T06:41:02z",
            "2026-11-21 06:41:02Z",
            "2026-11-21T06:41:02",
            "2026-11-21T06:41:60Z",
            "2026-11-21T24:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-21T06:41:02.Z",
            "2026-11-21T06:41:02.1234567890Z",
            "2026-11-21T06:41:02+0000",
            "2026-11-21T06:41:02+24:00",
            "2026-11-21T06:41:02+00:60",
            "2026-11-21T06:41:02ZZ",
            "+026-11-21T06:41:02Z",
            "2026-11-21T06:41:02é",
            "2026-1é-21T06:41:02Z",
            "20261121T064102Z-----------",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in -62_135_596_800_000_000i64..253_402_207_200_000_000) {
            prop_assert_eq!(parse(&format(Wall(micros))), Ok(Wall(micros)));
        }

        #[test]
        fn no_text_can_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
