//! Tasks on their way: given to a node, sent, answered, and given to another when nobody answers.

use super::*;

impl Tree {
    /// Gives out, sends, gives up and lets go whatever is due.
    pub(in crate::core) fn run(&mut self, head: Seq, peers: &mut Peers, now: Now, out: &mut Vec<Output>) {
        for id in std::mem::take(&mut self.lost) {
            self.lane_is_gone(&id, peers, now);
        }
        while let Some((due, id)) = self.due.first().copied().filter(|(due, _)| *due <= now.mono) {
            self.due.remove(&(due, id));
            self.look_after(id, peers, now);
        }
        // Giving a task to another may make that one ready, too: each round has fewer left to try.
        loop {
            let ready = self.targets.take_ready(now.mono);
            if ready.is_empty() {
                break;
            }
            for id in ready {
                self.serve(id, peers, now, out);
            }
        }
        for id in self.links.tidy(now.mono, out) {
            self.lane_is_gone(&id, peers, now);
        }
        self.read_on(now.mono, out);
        self.save_if_due(head, now.mono, out);
    }

    /// A cursor that moved wakes nobody: what a crash takes of it costs a repetition.
    pub(in crate::core) fn deadline(&self) -> Option<Mono> {
        let task = self.due.first().map(|(due, _)| *due);
        [task, self.targets.deadline(), self.links.deadline(), self.resumes_at()].into_iter().flatten().min()
    }

    /// A task whose moment has come: not given out yet, not answered in time, or to be tried again.
    fn look_after(&mut self, id: u64, peers: &mut Peers, now: Now) {
        let Some(task) = self.tasks.get(&id) else { return };
        let is_over = self.carried.get(&task.seq).is_none_or(|carried| carried.until <= now.mono);
        let is_answer = self.carried.get(&task.seq).is_some_and(|carried| carried.entry.hold.is_some());
        match task.ask {
            _ if is_over => {
                self.answers_late += u64::from(is_answer);
                self.give_up(id);
            }
            Ask::Leaf => {
                let (to, until) = (task.to, self.carried[&task.seq].until);
                self.set_due(id, until);
                self.targets.push(to, id);
            }
            Ask::Delegate(_) if task.tried.is_empty() => self.delegate(id, peers, now),
            Ask::Delegate(_) => self.delegate_again(id, peers, now),
        }
    }

    /// Gives a bucket to the best node of it that was not tried.
    fn delegate(&mut self, id: u64, peers: &mut Peers, now: Now) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Ask::Delegate(bucket) = task.ask else { return };
        let Some(carried) = self.carried.get(&task.seq) else { return self.give_up(id) };
        let event = carried.entry.envelope.event();
        let crowd = peers.crowd(&event.kind);
        let (source, from) = (event.source, carried.entry.from);
        let (targets, links) = (&self.targets, &self.links);
        let passes = |other: &NodeId| {
            *other != source
                && Some(*other) != from
                && !task.tried.contains(other)
                && !targets.is_resting(other)
                && targets.load(other) < self.lines_max
                && peers.reach(other).unwrap_or_else(|| links.reach(other, now.mono)) != Reach::Away
        };
        let Some(to) = self.candidates.choose(&self.me, &bucket, &crowd, peers, passes, now) else {
            return self.give_up(id);
        };
        let wait = match peers.reach(&to).unwrap_or_else(|| links.reach(&to, now.mono)) {
            Reach::Up(_, Some(rtt)) => (rtt * 3 + APPEND_LATE * 2).clamp(ACK_LEAST, ACK_MOST),
            _ => DIAL_WAIT,
        };
        let task = self.tasks.get_mut(&id).expect("it was there");
        task.to = to;
        task.tried.push(to);
        self.set_due(id, now.mono + wait);
        self.targets.push(to, id);
    }

    /// Nobody answered for a bucket in time, or nobody took it.
    fn delegate_again(&mut self, id: u64, peers: &mut Peers, now: Now) {
        let tried = self.tasks.get(&id).map_or(0, |task| task.tried.len());
        if tried >= DELEGATES_MAX {
            return self.give_up(id);
        }
        if !self.pace.allows_again(now.mono) {
            // Many are slow at once: what is on its way may still be answered.
            let task = self.tasks.get_mut(&id).expect("it was there");
            if std::mem::replace(&mut task.is_last, true) {
                return self.give_up(id);
            }
            return self.set_due(id, now.mono + REDELEGATE_WAIT);
        }
        self.counts.reselected += 1;
        self.delegate(id, peers, now);
    }

    /// Sends what waits for a node, makes a lane to it, or finds that it is away.
    fn serve(&mut self, to: NodeId, peers: &mut Peers, now: Now, out: &mut Vec<Output>) {
        // Blocked, in quarantine, not allowed any more, gone with a goodbye, or its record ended.
        if !peers.holds(&to) {
            return self.nothing_more_to(&to, peers, now);
        }
        match peers.reach(&to).unwrap_or_else(|| self.links.reach(&to, now.mono)) {
            Reach::Up(lane, _) => self.ship(to, lane, now, out),
            Reach::Coming => {}
            Reach::Untried => {
                if let Some(idlest) = self.links.make_room(now.mono, out) {
                    self.lane_is_gone(&idlest, peers, now);
                }
                if !self.links.dial(to, peers, now.mono, out) {
                    self.lane_is_gone(&to, peers, now);
                }
            }
            Reach::Away => self.lane_is_gone(&to, peers, now),
        }
    }

    fn ship(&mut self, to: NodeId, lane: LaneId, now: Now, out: &mut Vec<Output>) {
        let (mut lines, mut tasks, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = self.targets.next(&to, self.lines_max).into_iter();
        while let Some(id) = next.next() {
            // Given to another meanwhile, or over.
            let Some(task) = self.tasks.get(&id).filter(|task| task.to == to) else { continue };
            let Some(carried) = self.carried.get_mut(&task.seq).filter(|carried| now.wall < carried.expires) else {
                self.give_up(id);
                continue;
            };
            let line = carried.line(matches!(task.ask, Ask::Delegate(_)));
            if bytes + line.len() + 1 > self.bytes_max && !lines.is_empty() {
                self.targets.put_back(&to, std::iter::once(id).chain(next).collect::<Vec<_>>().into_iter());
                self.targets.wake(&to);
                break;
            }
            bytes += line.len() + 1;
            lines.push(line);
            tasks.push(id);
        }
        if tasks.is_empty() {
            return;
        }
        let shipment = ShipmentId(self.next_shipment);
        self.next_shipment += 1;
        self.targets.fly(&to, shipment, tasks);
        self.links.used(&to, now.mono);
        out.push(Output::Send { peer: to, lane, shipment, lines });
    }

    /// A node answered a body of ours, or will not.
    pub(in crate::core) fn on_sent(
        &mut self,
        peer: NodeId,
        shipment: ShipmentId,
        result: Result<Receipt, SendError>,
        peers: &mut Peers,
        now: Now,
    ) -> Vec<Seq> {
        let Some(tasks) = self.targets.land(&peer, shipment) else { return Vec::new() };
        match result {
            Ok(receipt) => self.on_receipt(peer, &tasks, &receipt, peers, now),
            Err(SendError::Busy(after)) => {
                self.targets.rest(peer, now.mono + after.clamp(RETRY_LEAST, RETRY_MOST));
                tasks.into_iter().for_each(|id| self.not_taken(id, &peer, peers, now));
                Vec::new()
            }
            // One line spoils the body, or a link of ours: another delegate, and leaves alone one by one.
            Err(SendError::Refused(_)) if tasks.len() == 1 => {
                tasks.into_iter().for_each(|id| self.refused(id, &peer, peers, now));
                Vec::new()
            }
            Err(SendError::Refused(_)) => {
                tasks.into_iter().for_each(|id| self.not_taken(id, &peer, peers, now));
                Vec::new()
            }
            Err(SendError::Lost) => {
                self.links.lose(&peer, now.mono);
                tasks.into_iter().for_each(|id| self.not_taken(id, &peer, peers, now));
                self.lane_is_gone(&peer, peers, now);
                Vec::new()
            }
        }
    }

    /// Gives the positions of the events that the node has now.
    fn on_receipt(&mut self, peer: NodeId, tasks: &[u64], receipt: &Receipt, peers: &mut Peers, now: Now) -> Vec<Seq> {
        if receipt.credit == 0 {
            self.targets.rest(peer, now.mono + RETRY_NO_CREDIT);
        }
        let mut taken = Vec::new();
        for (i, id) in (0u32..).zip(tasks.iter().copied()) {
            let Some(task) = self.tasks.get(&id) else { continue };
            let (seq, is_leaf) = (task.seq, matches!(task.ask, Ask::Leaf));
            if receipt.rejected.iter().any(|refused| refused.i == i) {
                self.refused(id, &peer, peers, now);
            } else if receipt.retry.iter().any(|retry| retry.i == i) {
                self.not_taken(id, &peer, peers, now);
            } else {
                taken.push(seq);
                if is_leaf {
                    self.counts.leaves += 1;
                    self.finish(id);
                } else if receipt.no_duty.contains(&i) {
                    self.not_taken(id, &peer, peers, now);
                } else {
                    self.counts.delegated += 1;
                    self.pace.delegated(now.mono);
                    self.finish(id);
                }
            }
        }
        taken
    }

    /// A node will never take this line: our view of it is old, or it does not want us.
    fn refused(&mut self, id: u64, by: &NodeId, peers: &mut Peers, now: Now) {
        match self.tasks.get(&id) {
            Some(task) if matches!(task.ask, Ask::Leaf) => self.finish(id),
            Some(_) => self.not_taken(id, by, peers, now),
            None => {}
        }
    }

    /// A node did not take this line now: another delegate, at once; a leaf is tried again.
    fn not_taken(&mut self, id: u64, by: &NodeId, peers: &mut Peers, now: Now) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match task.ask {
            Ask::Leaf => {
                task.failures += 1;
                let pause = LEAF_RETRY.saturating_mul(1 << task.failures.min(6)).min(LEAF_RETRY_MOST);
                self.set_due(id, now.mono + pause);
            }
            Ask::Delegate(_) if task.to == *by => self.delegate_again(id, peers, now),
            Ask::Delegate(_) => {} // another has it already
        }
    }

    /// A lane stands that may be one of ours.
    pub(in crate::core) fn on_linked(&mut self, id: NodeId, lane: LaneId, rtt: Duration, peers: &mut Peers, now: Now) {
        if self.links.on_connected(&id, lane, rtt, now.mono) {
            self.on_connected(id);
        } else {
            self.outdone(&id, peers, now);
        }
    }

    /// Another lane was made to a node that is no peer, and came to nothing: it took the place of ours, if there was
    /// one, and whoever waits for it is to try again.
    fn outdone(&mut self, id: &NodeId, peers: &mut Peers, now: Now) {
        if !peers.knows(id) && !self.links.is_coming(id) {
            self.links.forget(id);
            self.lane_is_gone(id, peers, now);
        }
    }

    /// A lane could not be made, or is gone, that may be one of ours.
    pub(in crate::core) fn on_unlinked(&mut self, id: NodeId, lane: LaneId, peers: &mut Peers, now: Now) {
        if self.links.on_broken(&id, lane, now.mono) {
            self.lane_is_gone(&id, peers, now);
        } else {
            self.outdone(&id, peers, now);
        }
    }

    /// Is a lane to it being made that is no peer's?
    pub(in crate::core) fn is_linking(&self, id: &NodeId) -> bool {
        self.links.is_coming(id)
    }

    pub(in crate::core) fn hang_up_all(&mut self, out: &mut Vec<Output>) {
        self.links.hang_up_all(out);
    }

    /// A lane stands.
    pub(in crate::core) fn on_connected(&mut self, id: NodeId) {
        self.candidates.connect(id);
        self.targets.wake(&id);
    }

    /// No lane stands to this node: what waits for it, or was on its way, is tried elsewhere or later.
    pub(in crate::core) fn lane_is_gone(&mut self, id: &NodeId, peers: &mut Peers, now: Now) {
        self.candidates.disconnect(id);
        for task in self.targets.empty(id) {
            if self.tasks.get(&task).is_some_and(|task| task.to == *id) {
                self.not_taken(task, id, peers, now);
            }
        }
    }

    /// Nothing is sent to this node any more.
    fn nothing_more_to(&mut self, id: &NodeId, peers: &mut Peers, now: Now) {
        for task in self.targets.empty(id) {
            match self.tasks.get(&task) {
                Some(Task { ask: Ask::Leaf, .. }) => self.give_up(task),
                Some(Task { to, .. }) if to == id => self.not_taken(task, id, peers, now),
                _ => {}
            }
        }
    }

    /// It became a peer: its lane is made anew by the table, and ours is replaced by that.
    pub(in crate::core) fn on_peer(&mut self, id: &NodeId, peers: &mut Peers, now: Now) {
        if self.links.forget(id) {
            self.lane_is_gone(id, peers, now);
        }
    }

    fn set_due(&mut self, id: u64, due: Mono) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        self.due.remove(&(std::mem::replace(&mut task.due, due), id));
        self.due.insert((due, id));
    }

    fn give_up(&mut self, id: u64) {
        self.counts.unserved += 1;
        self.finish(id);
    }

    fn finish(&mut self, id: u64) {
        let Some(task) = self.tasks.remove(&id) else { return };
        self.due.remove(&(task.due, id));
        if matches!(task.ask, Ask::Leaf)
            && let Some(count) = self.leaves.get_mut(&task.to)
        {
            *count -= 1;
            if *count == 0 {
                self.leaves.remove(&task.to);
            }
        }
        if let Some(carried) = self.carried.get_mut(&task.seq) {
            carried.open -= 1;
            if carried.open == 0 {
                self.carried.remove(&task.seq);
            }
        }
    }
}
