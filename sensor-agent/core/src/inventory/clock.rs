//! What happens to the inventory beside exchanges: connections, attachment, losses, and the passing of time.

use std::net::SocketAddr;

use super::{
    coverage::ListenerTotals,
    endpoint::Standing,
    summary::Sum,
    table::{EndpointId, Inventory},
    watch::Attached,
};
use crate::{
    event::{EndpointChange, EndpointEvent, Mask},
    state::State,
    time::UnixNs,
};

impl Inventory {
    /// The sensor is attached from now on.
    pub fn attached(&mut self, now: UnixNs, attached: Attached) {
        self.watch.begin(now, attached);
    }

    /// The sensor is still there (live), or the capture goes to here.
    pub fn alive(&mut self, now: UnixNs) {
        self.watch.extend(now);
        let window_ns = self.window_ns;
        for listener in &mut self.listeners {
            listener.coverage.checkpoint(now, window_ns);
        }
    }

    /// The capture goes to here; cheap enough for each packet.
    pub fn alive_to(&mut self, now: UnixNs) {
        self.watch.extend(now);
    }

    /// Heads were lost: until they leave the window, silence proves nothing.
    pub fn heads_lost(&mut self, now: UnixNs) {
        self.watch.lost = self.watch.lost.max(now);
    }

    /// A connection found no room in the table of listeners: silence of a listener that is not in it proves nothing.
    pub fn connections_uncounted(&mut self, now: UnixNs) {
        self.watch.uncounted = self.watch.uncounted.max(now);
    }

    /// When heads were lost last; zero: never.
    #[must_use]
    pub fn last_loss(&self) -> UnixNs {
        self.watch.lost
    }

    /// Flows are sampled: until that leaves the window, silence proves nothing.
    pub fn sampled(&mut self, now: UnixNs) {
        self.watch.sampled = self.watch.sampled.max(now);
    }

    /// Takes the kernel's totals of a listener on this host; a bound of listeners that is reached is counted.
    pub fn listener_totals(&mut self, address: SocketAddr, totals: ListenerTotals) {
        self.connection(address, |coverage| coverage.set(totals));
    }

    /// Counts a connection of a capture.
    pub fn add_connection(&mut self, address: SocketAddr, count: impl FnOnce(&mut ListenerTotals)) {
        self.connection(address, |coverage| coverage.add(count));
    }

    /// Notes what a TLS client asked a listener for.
    pub fn hello(&mut self, address: SocketAddr, server_name: Option<&str>, alpn: &[Box<str>]) {
        let max = self.limits.hello_names;
        let Some(id) = self.listener_id(address) else {
            self.losses.listeners_full += 1;
            return;
        };
        if let Some(listener) = self.listeners.get_mut(id as usize) {
            listener.coverage.hello(&mut self.hello_names, server_name, alpn, max);
        }
    }

    fn connection(
        &mut self,
        address: SocketAddr,
        change: impl FnOnce(&mut super::coverage::Coverage),
    ) {
        let Some(id) = self.listener_id(address) else {
            self.losses.listeners_full += 1;
            return;
        };
        if let Some(listener) = self.listeners.get_mut(id as usize) {
            change(&mut listener.coverage);
        }
    }

    /// Tells of endpoints that were proven since the last call, with their state now; at most `room` of them, the
    /// others at the next call.
    pub fn take_discovered(
        &mut self,
        now: UnixNs,
        mask: &Mask,
        room: usize,
        mut tell: impl FnMut(EndpointEvent),
    ) {
        for id in self.discovered.take(room) {
            self.tell_change(id, now, mask, Some(&mut tell), &mut Sum::default());
        }
    }

    /// Tells of endpoints whose state is another one than was told, by time, evidence or catalogue. Looks at all of
    /// them; ends retention. Tells `room` of them at most, the others at the next call.
    pub fn tell_changes(
        &mut self,
        now: UnixNs,
        mask: &Mask,
        room: usize,
        mut tell: impl FnMut(EndpointEvent),
    ) {
        self.retire(now);
        let (mut left, mut sum) = (room, Sum::default());
        for slot in 0..self.endpoints.len() {
            let Ok(slot) = u32::try_from(slot) else { break };
            // The sums are of all of them, also where there is no room to tell.
            let has_room = left > 0;
            let mut tell = |event| {
                left -= 1;
                tell(event);
            };
            let tell = has_room.then_some(&mut tell);
            self.tell_change(EndpointId(slot), now, mask, tell, &mut sum);
        }
        sum.summary.names_together =
            self.services.iter().map(|service| service.learned.rest_names()).sum();
        self.summary = sum.summary;
    }

    fn tell_change(
        &mut self,
        id: EndpointId,
        now: UnixNs,
        mask: &Mask,
        tell: Option<&mut impl FnMut(EndpointEvent)>,
        sum: &mut Sum,
    ) {
        let Some(endpoint) = self.endpoint(id) else { return };
        let state = self.evaluate(endpoint, now).decision.state;
        self.sum_up(sum, endpoint, state, now);
        let Some(tell) = tell else { return };
        let change = match endpoint.told {
            Some(previous) if previous == state => return,
            Some(previous) => EndpointChange::State { previous },
            None if state == State::Probing => return,
            None => EndpointChange::Discovered,
        };
        let Some(row) = self.row(id, now, mask) else { return };
        if let Some(Some(endpoint)) = self.endpoints.get_mut(id.0 as usize) {
            endpoint.told = Some(state);
            endpoint.dirty |= endpoint.standing == Standing::Endpoint;
        }
        tell(EndpointEvent { change, row });
    }
}
