//! Does this node answer at this address? One dial, TLS 1.3 pinned to its id, 3 s to connect and 5 s in
//! all, at most 4 KiB, no redirect followed; the answer is signed over registrar, nonce, id and address.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::StatusCode;

use super::super::dial::{Call, Trouble, nonce};
use super::super::exchange;
use super::super::routes::{Caller, Reply};
use super::super::{Context, resolve};
use super::Registrar;
use crate::wire::message::Hello;
use crate::wire::registration::{LIVENESS_BYTES_MAX, LIVENESS_ROUTE, Liveness, REGISTRATION_TYPE, Refused};
use crate::wire::{Code, HostPort, Keys, NodeId, Word};

impl Registrar {
    /// Visits `id` at `at`.
    ///
    /// # Errors
    /// [`Refused::Unreachable`] or [`Refused::WrongKey`], with the reason in our words.
    pub(super) async fn visit(&self, id: &NodeId, at: SocketAddr) -> Result<(), (Refused, String)> {
        let outcome = self.call_at(id, at).await;
        let counters = self.counters();
        let count = match &outcome {
            Ok(()) => &counters.answered,
            Err((Refused::WrongKey, _)) => &counters.wrong_key,
            Err(_) => &counters.unreachable,
        };
        count.one();
        outcome
    }

    async fn call_at(&self, id: &NodeId, at: SocketAddr) -> Result<(), (Refused, String)> {
        let context = &self.0.context;
        let lost = |why| (Refused::Unreachable, why);
        let _permit = self.0.visits.acquire().await.map_err(|_| lost("the registrar stops".to_owned()))?;
        // Once more at the socket: what stands in the zone may have been written by hand.
        let (profile, counters) = (context.settings().profile, context.counters());
        let policy = resolve::Policy { profile, word: Word::Near, counters };
        resolve::resolve(&HostPort::from_socket(at), &policy).await.map_err(|unmet| lost(unmet.why))?;
        context.counters().dialled.one();
        let call = Call::new(context, *id, &HostPort::from_socket(at), at).map_err(lost)?;
        let nonce = nonce().map_err(lost)?;
        let origin = &self.0.settings.origin;
        let question = format!("{LIVENESS_ROUTE}?nonce={nonce}&origin={origin}&at={at}");
        let answer = call.get(&question, LIVENESS_BYTES_MAX).await.map_err(|trouble| {
            let why = if call.met_another() { Refused::WrongKey } else { Refused::Unreachable };
            let busy = matches!(trouble, Trouble::Failed { status: 404, .. });
            let hint = if busy { ": its record names another address, or it knows nothing of registrars" } else { "" };
            (why, format!("{}{hint}", trouble.why(at)))
        })?;
        let signed = serde_json::from_slice::<Liveness>(&answer);
        match signed.is_ok_and(|answer| answer.is_answer_of(id, origin, &nonce, at)) {
            true => Ok(()),
            false => Err((Refused::WrongKey, format!("{at} did not sign that it is {}", id.short()))),
        }
    }
}

/// The node's side: signs that it is here, if its own record says so. `query` is `nonce=&origin=&at=`.
pub(in crate::net) fn answer(context: &Context, caller: Caller, query: Option<&str>) -> Reply {
    let value = |name: &str| query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let (nonce, origin) = (value("nonce"), value("origin"));
    let at = value("at").and_then(|text| text.parse::<SocketAddr>().ok());
    let (Some(nonce), Some(origin), Some(at)) =
        (nonce.filter(|text| Hello::is_nonce(text)), origin.filter(|text| Liveness::is_origin(text)), at)
    else {
        let why = "nonce, origin and address are needed";
        return Reply::problem(StatusCode::BAD_REQUEST, Code::Malformed.as_str(), why);
    };
    if let Err(reply) = exchange::spend(context, caller, 1) {
        return reply;
    }
    let settings = context.settings();
    let line = Bytes::copy_from_slice(settings.record.borrow().as_bytes());
    let now = (settings.clock)();
    let own = exchange::record_of(&context.id(), &line, now, &settings.network, &mut Keys::default());
    let is_here = own.ok().flatten().is_some_and(|record| record.addresses.contains(&HostPort::from_socket(at)));
    if !is_here {
        return Reply::problem(StatusCode::NOT_FOUND, "not_here", "the record of this node names another address");
    }
    match Liveness::answer(&settings.key, origin, nonce, at) {
        Some(answer) => Reply::ok(REGISTRATION_TYPE, serde_json::to_vec(&answer).expect("an answer always encodes")),
        None => Reply::problem(StatusCode::BAD_REQUEST, Code::Malformed.as_str(), "the origin is too long"),
    }
}
