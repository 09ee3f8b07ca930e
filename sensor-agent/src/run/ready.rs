//! Is the sensor ready: attached on every wanted interface, its thread alive, and packets seen where the kernel's own
//! interface counters moved.

use std::{collections::HashMap, fs};

use sensor_core::time::MonoNs;

use crate::kernel::{InterfaceState, InterfaceStatus};

/// The ring thread beats at least ten times a second; older than this is a hang.
const BEAT_NS_MAX: u64 = 5_000_000_000;
/// Interface counters are compared over at least this long.
const COMPARE_NS: u64 = 5_000_000_000;
/// Fewer packets than this say nothing.
const PACKETS_MIN: u64 = 20;

/// Compares what interfaces counted with what the programs saw.
#[derive(Debug, Default)]
pub(super) struct Ready {
    at: MonoNs,
    devices: HashMap<String, u64>,
    packets: u64,
    blind: Option<String>,
}

impl Ready {
    /// Reasons why it is not ready; empty when it is.
    pub(super) fn reasons(
        &mut self,
        now: MonoNs,
        beat: MonoNs,
        packets: u64,
        interfaces: &[InterfaceStatus],
    ) -> Vec<String> {
        let mut reasons = Vec::new();
        if interfaces.is_empty() {
            reasons.push("no interface matches: see --interface".to_owned());
        }
        for one in interfaces {
            if matches!(one.state, InterfaceState::Failed | InterfaceState::Missing) {
                let error = one.error.as_deref().unwrap_or("not attached");
                reasons.push(format!("interface {}: {error}", one.name));
            }
        }
        if now.since(beat) > BEAT_NS_MAX {
            reasons
                .push(format!("the ring was last read {} s ago", now.since(beat) / 1_000_000_000));
        }
        let devices = fs::read_to_string("/proc/net/dev").unwrap_or_default();
        self.compare(now, packets, &packets_of(&devices), interfaces);
        reasons.extend(self.blind.clone());
        reasons
    }

    fn compare(
        &mut self,
        now: MonoNs,
        packets: u64,
        devices: &HashMap<String, u64>,
        interfaces: &[InterfaceStatus],
    ) {
        if now.since(self.at) < COMPARE_NS {
            return;
        }
        let attached = |name: &str| {
            interfaces.iter().any(|one| {
                one.namespace == "own" && one.name == name && one.state == InterfaceState::Attached
            })
        };
        let moved: u64 = devices
            .iter()
            .filter(|(name, _)| attached(name))
            .filter_map(|(name, count)| Some(count.saturating_sub(*self.devices.get(name)?)))
            .sum();
        let seen = packets.saturating_sub(self.packets);
        self.blind = (self.at.0 > 0 && seen == 0 && moved >= PACKETS_MIN).then(|| {
            format!("interfaces counted {moved} packets of which the programs saw none: does another program end the chain before ours?")
        });
        (self.at, self.packets) = (now, packets);
        self.devices.clone_from(devices);
    }
}

/// Packets received and sent by device (proc_net_dev(5)).
fn packets_of(text: &str) -> HashMap<String, u64> {
    let rows = text.lines().skip(2).filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        let fields: Vec<u64> =
            rest.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        Some((name.trim().to_owned(), fields.get(1)?.saturating_add(*fields.get(9)?)))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eth0() -> InterfaceStatus {
        InterfaceStatus {
            namespace: "own".into(),
            ifindex: 2,
            name: "eth0".into(),
            hook: None,
            ingress: None,
            egress: None,
            state: InterfaceState::Attached,
            error: None,
        }
    }

    #[test]
    fn counters_of_the_system_are_read() {
        let text = "Inter-| Receive\n face |bytes packets\n  eth0: 10 7 0 0 0 0 0 0 20 5 0 0 0 0 0 0\n    lo: 1 1\n";
        assert_eq!(packets_of(text), HashMap::from([("eth0".into(), 12)]));
    }

    #[test]
    fn packets_on_the_interface_that_nobody_saw_are_a_reason() {
        let mut ready = Ready::default();
        let second = |n: u64| MonoNs(n * 1_000_000_000);
        let devices = |count| HashMap::from([("eth0".to_owned(), count)]);
        ready.compare(second(10), 5, &devices(100), &[eth0()]);
        assert_eq!(ready.blind, None);
        ready.compare(second(20), 5, &devices(200), &[eth0()]);
        assert!(ready.blind.is_some());
        ready.compare(second(30), 6, &devices(300), &[eth0()]);
        assert_eq!(ready.blind, None);
        ready.compare(second(40), 6, &devices(301), &[eth0()]);
        assert_eq!(ready.blind, None, "a single packet can be one that is not at TC");
    }
}
