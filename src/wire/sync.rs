//! Reconciliation as it travels: the frames of `/mesh/v1/sync`, and the digests of `/mesh/v1/get`.
//!
//! ```text
//! frame   = subject message                   at most 64 KiB, in requests and answers
//! subject = %x01                              the records of living nodes: items are (seq, digest)
//!         / %x02 window patterns              kept for events of a time, whose types match
//! message = negentropy protocol, version 1    range-based set reconciliation; begins with %x61
//!
//! digests = 1*128 (32 bytes)                  the body of `/get`, and nothing between them
//! ```
//!
//! Both sides keep nothing between two frames: whoever asks says all of it again. What a message means
//! is for whoever has the items ([`crate::core::sync`]).

use super::identity::Digest;

/// Largest frame of `/sync`, in requests and answers.
pub const SYNC_BYTES_MAX: usize = 64 << 10;
/// Most digests in a request of `/get`. So many records, each as large as one may be, fit in an answer.
pub const DIGESTS_MAX: usize = 128;
/// Largest answer of `/get`. Where lines are larger than that together, the last ones are left out.
pub const GIVEN_BYTES_MAX: usize = 1 << 20;

const RECORDS: u8 = 1;

/// What is reconciled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The records of living nodes.
    Records,
}

/// One frame, read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Of what.
    pub subject: Subject,
    /// The message; not looked at here.
    pub message: &'a [u8],
}

/// Why bytes are none of this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misframed {
    /// No byte, or one that nothing follows.
    #[error("a frame is a subject and a message")]
    Empty,
    /// A subject of a newer version, or of none.
    #[error("this node does not reconcile that")]
    UnknownSubject,
    /// More than a body may have.
    #[error("the body is too large")]
    TooLarge,
    /// No whole digests.
    #[error("the body is 1 to 128 digests of 32 bytes")]
    Digests,
}

impl Misframed {
    /// The stable word for the answer: whoever asks of something newer can tell that from a fault.
    pub fn code(self) -> &'static str {
        match self {
            Misframed::Empty | Misframed::Digests => "malformed",
            Misframed::UnknownSubject => "unknown_subject",
            Misframed::TooLarge => "too_large",
        }
    }
}

impl<'a> Frame<'a> {
    /// Reads one frame. Nothing is allocated.
    ///
    /// # Errors
    /// [`Misframed`].
    pub fn read(bytes: &'a [u8]) -> Result<Frame<'a>, Misframed> {
        if bytes.len() > SYNC_BYTES_MAX {
            return Err(Misframed::TooLarge);
        }
        match bytes.split_first() {
            None => Err(Misframed::Empty),
            Some((&RECORDS, [])) => Err(Misframed::Empty),
            Some((&RECORDS, message)) => Ok(Frame { subject: Subject::Records, message }),
            Some(_) => Err(Misframed::UnknownSubject),
        }
    }

    /// As it travels.
    pub fn bytes(&self) -> Vec<u8> {
        let tag = match self.subject {
            Subject::Records => RECORDS,
        };
        let mut bytes = Vec::with_capacity(1 + self.message.len());
        bytes.push(tag);
        bytes.extend_from_slice(self.message);
        bytes
    }
}

/// Reads the body of `/get`: digests in the order in which they stand there.
///
/// # Errors
/// [`Misframed`].
pub fn read_digests(bytes: &[u8]) -> Result<Vec<Digest>, Misframed> {
    let (digests, rest) = bytes.as_chunks::<32>();
    if digests.is_empty() || digests.len() > DIGESTS_MAX || !rest.is_empty() {
        return Err(Misframed::Digests);
    }
    Ok(digests.iter().map(|digest| Digest::from_bytes(*digest)).collect())
}

/// The body of `/get`.
pub fn digests_body(digests: &[Digest]) -> Vec<u8> {
    digests.iter().flat_map(|digest| *digest.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_back_and_what_is_none_is_told_apart() {
        let frame = Frame { subject: Subject::Records, message: b"\x61\x00" };
        assert_eq!(Frame::read(&frame.bytes()), Ok(frame));
        assert_eq!(Frame::read(&[]), Err(Misframed::Empty));
        assert_eq!(Frame::read(&[1]), Err(Misframed::Empty));
        assert_eq!(Frame::read(b"\x02\x61"), Err(Misframed::UnknownSubject));
        assert_eq!(Frame::read(&[]).map_err(Misframed::code), Err("malformed"));
        assert_eq!(Frame::read(&[3]).map_err(Misframed::code), Err("unknown_subject"));
        let largest = vec![1; SYNC_BYTES_MAX];
        assert!(Frame::read(&largest).is_ok());
        assert_eq!(Frame::read(&[largest.as_slice(), &[1]].concat()), Err(Misframed::TooLarge));
    }

    #[test]
    fn digests_are_whole_and_few() {
        let digests: Vec<Digest> = (0..=255).map(|byte| Digest::from_bytes([byte; 32])).collect();
        for count in [1, 2, DIGESTS_MAX] {
            assert_eq!(read_digests(&digests_body(&digests[..count])).as_deref(), Ok(&digests[..count]));
        }
        for wrong in [vec![], vec![0; 31], vec![0; 33], digests_body(&digests[..=DIGESTS_MAX])] {
            assert_eq!(read_digests(&wrong), Err(Misframed::Digests), "{} bytes", wrong.len());
        }
    }
}
