//! What a connection costs before anybody reads its requests: a look at the raw bytes as they pass.
//!
//! hyper and h2 answer PING and SETTINGS floods without end, hide a `Content-Length` that came with a
//! `Transfer-Encoding`, and have no deadline for a head that trickles in. So the bytes of HTTP/2 are
//! cut into frames and those of HTTP/1.1 into heads, here, beside the real parsers. Nothing is
//! decided from the content; a connection that costs more than it carries is closed.

use std::time::Instant;

use super::settings::Limits;

/// What some bytes were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Glance {
    /// Bytes that are no request body.
    pub(super) overhead: u32,
    /// HTTP/2 frames that are neither DATA nor part of a header block.
    pub(super) control: u32,
    /// The bytes end within a request head.
    pub(super) is_in_head: bool,
    /// The peer has said something: a byte of HTTP/1.1, or the whole preface of HTTP/2.
    pub(super) spoke: bool,
    /// HTTP/1.1 framing that two readers may read differently: refused.
    pub(super) is_ambiguous: bool,
    /// No further request may follow on this connection, since its start would have to be guessed.
    pub(super) is_last: bool,
}

/// Cuts the bytes of one connection.
pub(super) enum Cutter {
    /// HTTP/1.1.
    Heads(Heads),
    /// HTTP/2.
    Frames(Frames),
}

impl Cutter {
    /// The next bytes.
    pub(super) fn glance(&mut self, bytes: &[u8]) -> Glance {
        match self {
            Cutter::Heads(heads) => heads.glance(bytes),
            Cutter::Frames(frames) => frames.glance(bytes),
        }
    }
}

/// HTTP/2 frames (RFC 9113 section 4.1): a 9-byte header with the length, then that many bytes.
#[derive(Default)]
pub(super) struct Frames {
    preface: usize,
    header: [u8; 9],
    header_len: usize,
    payload: usize,
    is_in_head: bool,
}

const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

impl Frames {
    fn glance(&mut self, mut bytes: &[u8]) -> Glance {
        let mut glance = Glance::default();
        let preface = bytes.len().min(PREFACE - self.preface);
        self.preface += preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            if self.payload > 0 {
                let part = bytes.len().min(self.payload);
                self.payload -= part;
                bytes = &bytes[part..];
                glance.overhead += if self.header[3] == DATA { 0 } else { part as u32 };
            } else {
                self.header[self.header_len] = bytes[0];
                self.header_len += 1;
                bytes = &bytes[1..];
                if self.header_len == self.header.len() {
                    self.begin(&mut glance);
                }
            }
            self.finish();
        }
        glance.spoke = self.preface == PREFACE;
        glance.is_in_head = self.is_in_head;
        glance
    }

    /// A whole frame header is here.
    fn begin(&mut self, glance: &mut Glance) {
        let [a, b, c, kind, ..] = self.header;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.is_in_head |= kind == HEADERS;
        glance.overhead += self.header.len() as u32;
        glance.control += u32::from(!matches!(kind, DATA | HEADERS | CONTINUATION));
    }

    /// After every piece: was it the last of its frame?
    fn finish(&mut self) {
        if self.header_len == self.header.len() && self.payload == 0 {
            self.header_len = 0;
            let [.., kind, flags, _, _, _, _] = self.header;
            if matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0 {
                self.is_in_head = false;
            }
        }
    }
}

/// HTTP/1.1 heads (RFC 9112 section 2): lines up to an empty one, then a body by its length.
#[derive(Default)]
pub(super) struct Heads {
    line: Vec<u8>,
    is_begun: bool,
    has_length: bool,
    has_coding: bool,
    length: u64,
    body: u64,
    glance: Glance,
}

/// Longest line of an HTTP/1.1 head.
pub const LINE_MAX: usize = 16 << 10;

impl Heads {
    fn glance(&mut self, mut bytes: &[u8]) -> Glance {
        self.glance.overhead = 0;
        self.glance.spoke = true;
        while !bytes.is_empty() && !self.glance.is_last {
            if self.body > 0 {
                let part = usize::try_from(self.body).unwrap_or(usize::MAX).min(bytes.len());
                self.body -= part as u64;
                bytes = &bytes[part..];
                continue;
            }
            let to = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
            self.line.extend_from_slice(&bytes[..to]);
            self.glance.overhead += to as u32;
            bytes = &bytes[to..];
            if self.line.ends_with(b"\n") {
                self.end_line();
            } else if self.line.len() > LINE_MAX {
                self.end_reading(); // hyper refuses it with 431
            }
        }
        self.glance.is_in_head = !self.glance.is_last && (self.is_begun || !self.line.is_empty());
        self.glance
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let Some(line) = line.strip_suffix(b"\r\n") else {
            // RFC 9112 section 2.2 lets a reader take a bare LF, or not: so two readers may differ.
            self.glance.is_ambiguous = true;
            return self.end_reading();
        };
        match (self.is_begun, line) {
            (false, []) => {}
            (true, []) => self.end_head(),
            (false, _) => self.is_begun = true,
            (true, _) => self.header(line),
        }
    }

    fn header(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.has_length = true;
            self.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.has_coding = true;
        }
    }

    fn end_head(&mut self) {
        if self.has_coding {
            self.glance.is_ambiguous |= self.has_length;
            return self.end_reading();
        }
        self.body = std::mem::take(&mut self.length);
        (self.is_begun, self.has_length) = (false, false);
    }

    fn end_reading(&mut self) {
        self.line = Vec::new();
        self.glance.is_last = true;
    }
}

/// Two buckets that fill with time and with every request that ended well, and are emptied by what
/// carries no request.
pub(super) struct Meter {
    bytes: Bucket,
    frames: Bucket,
}

struct Bucket {
    left: f64,
    burst: f64,
    per_second: f64,
    filled: Instant,
}

/// What one request that ended well pays for: its head and some window updates.
const BYTES_PER_REQUEST: f64 = 4096.0;
const FRAMES_PER_REQUEST: f64 = 16.0;

impl Meter {
    pub(super) fn new(limits: &Limits, now: Instant) -> Meter {
        let bucket = |burst: u32, per_second: u32| Bucket {
            left: burst.into(),
            burst: burst.into(),
            per_second: per_second.into(),
            filled: now,
        };
        Meter {
            bytes: bucket(limits.overhead_burst, limits.overhead_per_second),
            frames: bucket(limits.control_burst, limits.control_per_second),
        }
    }

    /// Takes what these bytes cost; `well` requests ended well since the last time.
    ///
    /// # Errors
    /// The connection costs more than it carries.
    pub(super) fn spend(&mut self, glance: &Glance, well: u32, now: Instant) -> Result<(), ()> {
        let within = self.bytes.spend(glance.overhead, f64::from(well) * BYTES_PER_REQUEST, now)
            & self.frames.spend(glance.control, f64::from(well) * FRAMES_PER_REQUEST, now);
        if within { Ok(()) } else { Err(()) }
    }
}

impl Bucket {
    fn spend(&mut self, cost: u32, more: f64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left = (self.left + more + passed * self.per_second).min(self.burst) - f64::from(cost);
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Whole, and byte by byte: the sums and the last word must be the same.
    fn heads(text: &str) -> Glance {
        let whole = Heads::default().glance(text.as_bytes());
        let mut by_byte = Heads::default();
        let mut overhead = 0;
        let mut last = Glance::default();
        for byte in text.bytes() {
            last = by_byte.glance(&[byte]);
            overhead += last.overhead;
        }
        assert_eq!(whole, Glance { overhead, ..last }, "{text:?}");
        whole
    }

    #[test]
    fn heads_and_bodies_are_told_apart_over_many_requests() {
        let request = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
        let glance = heads(&format!("{request}ab\n\ncGET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!glance.is_ambiguous && !glance.is_last && !glance.is_in_head);
        assert_eq!(glance.overhead as usize, request.len() + "GET / HTTP/1.1\r\nHost: a\r\n\r\n".len());
        assert!(heads(&format!("{request}abcdeG")).is_in_head);
        assert!(!heads(&format!("{request}ab")).is_in_head);
    }

    #[test]
    fn framing_that_can_be_read_in_two_ways_is_seen() {
        for text in [
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
            "POST / HTTP/1.1\nHost: a\n\n",
            "POST / HTTP/1.1\r\nHost: a\n\r\n",
        ] {
            assert!(heads(text).is_ambiguous, "{text:?}");
        }
        let chunked = heads("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab\n");
        assert!(chunked.is_last && !chunked.is_ambiguous);
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u32;
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    fn frames(bytes: &[u8]) -> Glance {
        let whole = Frames::default().glance(bytes);
        let mut by_byte = Frames::default();
        let mut sum = Glance::default();
        for byte in bytes {
            let glance = by_byte.glance(&[*byte]);
            sum = Glance { overhead: sum.overhead + glance.overhead, control: sum.control + glance.control, ..glance };
        }
        assert_eq!(whole, sum);
        whole
    }

    #[test]
    fn frames_are_cut_and_counted() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        assert!(!frames(&preface[..23]).spoke);
        assert!(frames(&preface).spoke);
        let all = [preface, frame(4, 0, &[]), frame(6, 0, &[0; 8]), frame(1, 4, &[1; 10])].concat();
        let glance = frames(&[all.clone(), frame(0, 0, &[0; 1000]), frame(0, 1, &[])].concat());
        assert_eq!((glance.control, glance.overhead), (2, 5 * 9 + 8 + 10));
        assert!(!glance.is_in_head);
        assert!(frames(&[all.clone(), frame(1, 0, &[1; 10])].concat()).is_in_head, "no END_HEADERS yet");
        assert!(!frames(&[all, frame(1, 0, &[1; 10]), frame(9, 4, &[])].concat()).is_in_head);
    }

    #[test]
    fn what_carries_nothing_is_paid_from_two_buckets() {
        let start = Instant::now();
        let limits = Limits { overhead_burst: 100, overhead_per_second: 10, control_burst: 3, ..Limits::default() };
        let cost = |overhead, control| Glance { overhead, control, ..Glance::default() };
        let mut meter = Meter::new(&limits, start);
        assert!(meter.spend(&cost(100, 0), 0, start).is_ok());
        assert!(meter.spend(&cost(10, 0), 0, start + Duration::from_secs(1)).is_ok());
        assert!(meter.spend(&cost(90, 0), 1, start + Duration::from_secs(1)).is_ok(), "a request paid for it");
        assert!(meter.spend(&cost(11, 0), 0, start + Duration::from_secs(1)).is_err());
        assert!(Meter::new(&limits, start).spend(&cost(0, 4), 0, start).is_err());
    }
}
