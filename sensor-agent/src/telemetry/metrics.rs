//! A [`StatusView`] as Prometheus text: every name from an enum or from a fixed list here, made anew at each scrape.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

use super::Own;
use crate::control::{ChainStatus, InterfaceView, StatusView};

/// Text for one scrape.
pub(super) fn render(view: StatusView) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("sensor");
    registry.register_collector(Box::new(Scrape(view)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Scrape(StatusView);

type Written = Result<(), std::fmt::Error>;

impl Collector for Scrape {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Written {
        let view = &self.0;
        self.agent(&mut out)?;
        for (stage, counts) in &view.ledger {
            let name = format!("{stage}_ledger");
            let help = format!("The loss ledger of the stage {stage}");
            let mut family = out.encode_descriptor(
                &name,
                &help,
                None,
                prometheus_client::metrics::MetricType::Counter,
            )?;
            for (count, value) in counts {
                ConstCounter::new(*value)
                    .encode(family.encode_family(&[("count", count.as_str())])?)?;
            }
        }
        self.endpoints(&mut out)?;
        self.audit(&mut out)?;
        self.clients(&mut out)?;
        self.rules(&mut out)?;
        self.sinks(&mut out)?;
        for own in Own::ALL {
            counter(&mut out, own.name(), own.help(), own.value())?;
        }
        Ok(())
    }
}

impl Scrape {
    fn agent(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let view = &self.0;
        let info = Info::new([
            ("version", view.version.as_str()),
            ("mode", &view.mode),
            ("hook", &view.hook),
        ]);
        info.encode(out.encode_descriptor(
            "agent",
            "The running agent",
            None,
            info.metric_type(),
        )?)?;
        gauge(
            out,
            "ready",
            "1 when attached, alive and seeing packets",
            None,
            u64::from(view.ready),
        )?;
        let seconds = view.started_unix_ns / 1_000_000_000;
        gauge(out, "start_time", "Start of the agent, since 1970", Some(&Unit::Seconds), seconds)?;
        let attached = view.interfaces.iter().filter(|one| one.state == "attached").count() as u64;
        gauge(out, "interfaces_attached", "Interfaces that are observed", None, attached)?;
        gauge(
            out,
            "interfaces_wanted",
            "Interfaces that should be observed",
            None,
            view.interfaces.len() as u64,
        )?;
        self.enforcement(out)?;
        gauge(
            out,
            "programs_missing",
            "Programs that the kernel refused",
            None,
            view.programs_missing.len() as u64,
        )?;
        gauge(
            out,
            "sample_weight",
            "One sample stands for this many flows",
            None,
            view.sample_weight.into(),
        )?;
        gauge(
            out,
            "ring_fill_max",
            "Most that was found waiting in the ring",
            Some(&Unit::Bytes),
            view.ring.fill_bytes_max,
        )?;
        gauge(out, "ring_size", "Size of the ring", Some(&Unit::Bytes), view.ring.bytes)?;
        counter(out, "ring_records", "Records read from the ring", view.ring.records)?;
        let age = view.time_unix_ns.saturating_sub(view.store.committed_unix_ns) / 1_000_000_000;
        if view.store.committed_unix_ns > 0 {
            gauge(
                out,
                "store_commit_age",
                "Time since the last durable commit",
                Some(&Unit::Seconds),
                age,
            )?;
        }
        if let Some(catalogue) = &view.catalogue {
            gauge(out, "catalogue_documents", "API documents in use", None, catalogue.documents)?;
            gauge(out, "catalogue_operations", "Operations in them", None, catalogue.operations)?;
            gauge(
                out,
                "catalogue_errors",
                "Documents refused, and warnings",
                None,
                catalogue.errors.len() as u64,
            )?;
        }
        Ok(())
    }

    fn endpoints(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let endpoints = &self.0.endpoints;
        let help = "Endpoints of kind api without a declared owner";
        gauge(out, "endpoints_unowned", help, None, endpoints.unowned)?;
        let help = "Names in paths beside those that learned templates tell apart, estimated";
        gauge(out, "learned_names_together", help, None, endpoints.names_together)?;
        let families = [
            ("endpoints", "Endpoints that were called", "state", &endpoints.by_state),
            (
                "endpoints_reached",
                "Endpoints by the widest class of callers",
                "exposure",
                &endpoints.by_exposure,
            ),
        ];
        for (name, help, label, counts) in families {
            let gauge = prometheus_client::metrics::MetricType::Gauge;
            let mut family = out.encode_descriptor(name, help, None, gauge)?;
            for (value, count) in counts {
                ConstGauge::new(*count)
                    .encode(family.encode_family(&[(label, value.as_str())])?)?;
            }
        }
        Ok(())
    }

    fn enforcement(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let view = &self.0;
        let behind = |chain: &Option<ChainStatus>| {
            chain.as_ref().is_some_and(|chain| !chain.ahead.is_empty())
        };
        let behind = |one: &&InterfaceView| behind(&one.ingress) || behind(&one.egress);
        let behind = view.interfaces.iter().filter(behind).count() as u64;
        let help = "Interfaces where another program runs before ours and may end the chain";
        gauge(out, "interfaces_behind", help, None, behind)?;
        let state = &view.enforcement;
        let help = "1 when rules are carried out: mode enforce, and not switched off";
        let on = view.mode == "enforce" && !state.switched_off;
        gauge(out, "enforcement_on", help, None, on.into())?;
        let help = "1 when rules stay in force without the agent";
        gauge(out, "enforcement_pinned", help, None, state.pinned.into())?;
        let help = "Layouts of earlier agents that are still attached";
        gauge(out, "other_layouts", help, None, state.other_layouts.len() as u64)?;
        let help = "Links that could not be pinned";
        counter(out, "links_not_pinned", help, state.links_not_pinned)?;
        let help = "Times that our program was put in front of another one again";
        counter(out, "put_in_front", help, state.put_in_front)?;
        let help = "Pins and filters of earlier agents or vanished devices that were removed";
        counter(out, "pins_swept", help, state.swept)
    }

    /// What limits count of clients.
    fn clients(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let clients = &self.0.clients;
        let help = "Open connections that limits count, as of the last recount";
        gauge(out, "limit_connections", help, None, clients.connections)?;
        let help = "By how much the kernel's numbers of open connections were wrong at recounts";
        counter(out, "limit_connections_drift", help, clients.connections_drift)?;
        let help = "Connections that limits no longer count, because they are idle";
        counter(out, "limit_connections_idle", help, clients.connections_idle)?;
        let help = "Clients over a limit, as of the last recount";
        gauge(out, "limit_clients_penalised", help, None, clients.penalised)
    }

    /// One query over a fleet finds the host whose log does not have the head that it told.
    fn audit(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let audit = &self.0.audit;
        let info = Info::new([("head", audit.head.as_str())]);
        let help = "Hash of the last entry of the audit log";
        info.encode(out.encode_descriptor("audit", help, None, info.metric_type())?)?;
        gauge(out, "audit_log_entries", "Number of the last entry", None, audit.entries)?;
        let help = "1 when the audit log cannot be written: no command may change anything";
        gauge(out, "audit_log_failed", help, None, audit.error.is_some().into())
    }

    fn rules(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let Some(policy) = &self.0.policy else { return Ok(()) };
        let info = Info::new([
            ("hash", policy.hash.as_str()),
            ("origin", &policy.origin),
            ("base", &policy.layer),
        ]);
        info.encode(out.encode_descriptor(
            "policy",
            "The policy in force",
            None,
            info.metric_type(),
        )?)?;
        gauge(
            out,
            "policy_generation",
            "Counts up with each policy that came into force",
            None,
            policy.generation,
        )?;
        let help = "1 while the policy is on trial and ends by itself unless it is confirmed";
        gauge(out, "policy_provisional", help, None, policy.provisional.is_some().into())?;
        gauge(out, "policy_rules_added", "Rules added by command", None, policy.added)?;
        let stopped = self.0.rules.iter().filter(|rule| rule.stopped.is_some()).count() as u64;
        let help = "Rules that the guard stopped: they only monitor";
        gauge(out, "policy_rules_stopped", help, None, stopped)?;
        gauge(
            out,
            "policy_installed",
            "Entries of the policy in the kernel",
            None,
            policy.installed,
        )?;
        gauge(out, "policy_wanted", "Entries of the policy", None, policy.wanted)?;
        gauge(
            out,
            "policy_file_refused",
            "1 when the file as it is now was refused",
            None,
            policy.error.is_some().into(),
        )?;
        if policy.applied_unix_ns > 0 {
            let age = self.0.time_unix_ns.saturating_sub(policy.applied_unix_ns) / 1_000_000_000;
            gauge(
                out,
                "policy_age",
                "Time since the policy came into force",
                Some(&Unit::Seconds),
                age,
            )?;
        }
        let counter = prometheus_client::metrics::MetricType::Counter;
        let mut family = out.encode_descriptor(
            "rule_packets",
            "Packets that a rule dropped or would have dropped",
            None,
            counter,
        )?;
        for rule in &self.0.rules {
            for (outcome, value) in [
                ("dropped", rule.packets),
                ("would_drop", rule.would_packets),
                ("shared_source", rule.shared_packets),
            ] {
                let labels =
                    [("rule", rule.id.as_str()), ("kind", &rule.kind), ("outcome", outcome)];
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn sinks(&self, out: &mut DescriptorEncoder<'_>) -> Written {
        let counter = prometheus_client::metrics::MetricType::Counter;
        let mut family =
            out.encode_descriptor("sink_events", "Events by what became of them", None, counter)?;
        for sink in &self.0.sinks {
            for (outcome, value) in [
                ("accepted", sink.accepted),
                ("written", sink.acknowledged),
                ("dropped", sink.dropped),
            ] {
                let labels = [("sink", sink.sink.as_str()), ("outcome", outcome)];
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let gauge = prometheus_client::metrics::MetricType::Gauge;
        let mut family = out.encode_descriptor(
            "sink_waiting",
            "Events that wait in a sink's queue",
            None,
            gauge,
        )?;
        for sink in &self.0.sinks {
            ConstGauge::new(sink.waiting_events)
                .encode(family.encode_family(&[("sink", sink.sink.as_str())])?)?;
        }
        Ok(())
    }
}

fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: u64,
) -> Written {
    let gauge = ConstGauge::new(value);
    gauge.encode(out.encode_descriptor(name, help, unit, gauge.metric_type())?)
}

fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Written {
    let counter = ConstCounter::new(value);
    counter.encode(out.encode_descriptor(name, help, None, counter.metric_type())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::{EndpointsStatus, PolicyStatus, RuleStatus},
        sink::SinkStatus,
    };

    #[test]
    fn a_scrape_is_valid_text_whatever_the_names_are() {
        let rule = RuleStatus { id: "a\"b\n\\".into(), packets: 7, ..RuleStatus::default() };
        let view = StatusView {
            ready: true,
            endpoints: EndpointsStatus {
                by_state: [("shadow-path".into(), 2)].into(),
                by_exposure: [("public".into(), 1)].into(),
                unowned: 3,
                names_together: 12,
            },
            ledger: [("kernel".into(), [("sightings".into(), 5)].into())].into(),
            policy: Some(PolicyStatus::default()),
            clients: crate::kernel::ClientCounts::default(),
            rules: vec![rule],
            sinks: vec![SinkStatus { sink: "stdout".into(), dropped: 3, ..SinkStatus::default() }],
            ..StatusView::default()
        };
        let text = render(view).unwrap();
        for line in [
            "sensor_ready 1",
            "sensor_endpoints{state=\"shadow-path\"} 2",
            "sensor_endpoints_reached{exposure=\"public\"} 1",
            "sensor_endpoints_unowned 3",
            "sensor_learned_names_together 12",
            "sensor_kernel_ledger_total{count=\"sightings\"} 5",
            "sensor_sink_events_total{sink=\"stdout\",outcome=\"dropped\"} 3",
            "sensor_rule_packets_total{rule=\"a\\\"b\\n\\\\\",kind=\"\",outcome=\"dropped\"} 7",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
