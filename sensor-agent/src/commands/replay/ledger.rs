//! The ledger of a replay for people: where every packet, head and exchange went; zeros are left out.

use std::fmt::Write as _;

use sensor_core::flow::FlowCounter as C;
use sensor_core::pipeline::{Pipeline, PipelineCounter as P};

use crate::commands::output::grouped;
use crate::source::packet::PacketCounts;

/// Makes the text.
pub(super) fn render(
    pipeline: &Pipeline,
    packets: Option<PacketCounts>,
    records: Option<(u64, u64)>,
) -> String {
    let mut text = String::new();
    if let Some((taken, wrong)) = records {
        line(&mut text, "records", taken + wrong, &[("requests", taken), ("left out", wrong)]);
        exchanges(&mut text, pipeline);
    }
    if let Some(counts) = packets {
        let parts = [
            ("TCP", counts.tcp),
            ("not TCP", counts.not_tcp),
            ("not IP", counts.not_ip),
            ("fragments", counts.fragments),
            ("malformed", counts.malformed),
            ("link type not read", counts.link_unknown),
        ];
        line(&mut text, "packets", counts.packets, &parts);
        let flow = |counter| pipeline.flow_counts().value(counter);
        line(
            &mut text,
            "request heads",
            flow(C::RequestHeads),
            &[
                ("answered", flow(C::RequestsAnswered)),
                ("without response", flow(C::RequestsUnanswered)),
                ("in tunnels", flow(C::RequestsTunnelled)),
            ],
        );
        line(
            &mut text,
            "response heads",
            flow(C::ResponseHeads),
            &[
                ("answering", flow(C::ResponsesAnswered)),
                ("interim", flow(C::ResponsesInterim)),
                ("request not seen", flow(C::ResponsesOrphan)),
            ],
        );
        exchanges(&mut text, pipeline);
        let losses = [
            ("gaps", flow(C::Gaps)),
            ("bytes in gaps", flow(C::GapBytes)),
            ("heads cut", flow(C::HeadsTruncated)),
            ("heads malformed", flow(C::HeadsMalformed)),
            ("positions lost", flow(C::PositionsLost)),
            ("connections evicted", flow(C::FlowsEvicted) + flow(C::FlowsOverBudget)),
            ("segments outside of windows", flow(C::SegmentsOutside)),
        ];
        let some: Vec<_> = losses
            .iter()
            .filter(|(_, value)| *value > 0)
            .map(|(name, value)| format!("{} {name}", grouped(*value)))
            .collect();
        let some = if some.is_empty() { "none".to_owned() } else { some.join(", ") };
        let _infallible = writeln!(text, "losses: {some}");
    }
    text
}

/// Where exchanges went, however they were written down.
fn exchanges(text: &mut String, pipeline: &Pipeline) {
    let counts = pipeline.counts();
    let went = |counter| counts.value(counter);
    line(
        text,
        "exchanges",
        went(P::Exchanges),
        &[
            ("at endpoints", went(P::AtEndpoints)),
            ("of paths that nothing shows to exist", went(P::Probing)),
            ("in overflow rows", went(P::Overflow)),
            ("preflights", went(P::Preflight)),
            ("without a path", went(P::NoOperation)),
            ("to other hosts", went(P::Egress)),
            ("between others (neither side is ours)", went(P::Transit)),
        ],
    );
    for (counter, what) in [
        (P::LookupsGivenUp, "took too many steps: their paths count as undeclared"),
        (P::LookupsPartial, "were of services that too many documents name: not all were asked"),
    ] {
        if went(counter) > 0 {
            let count = grouped(went(counter));
            let _infallible = writeln!(text, "WARNING: {count} look-ups in the catalogue {what}");
        }
    }
}

fn line(text: &mut String, name: &str, total: u64, parts: &[(&str, u64)]) {
    // Writing to a string cannot fail.
    let _infallible = write!(text, "{name}: {}", grouped(total));
    for (index, (part, value)) in parts.iter().filter(|(_, value)| *value > 0).enumerate() {
        let _infallible =
            write!(text, "{}{} {part}", if index == 0 { " = " } else { ", " }, grouped(*value));
    }
    text.push('\n');
}
