//! TC classifiers (TCX links or clsact filters), for each direction and link type.
//!
//! A packet that is not dropped gets "go on" (`TCX_NEXT` = `TC_ACT_UNSPEC`), so that whoever is attached behind still sees it.

use aya_ebpf::{macros::classifier, programs::TcContext};
use sensor_ebpf::{abi::sample::Hook, judge::judge, packet::Link, verdict::Decision};

use crate::{
    context::Skb,
    globals::enforcing,
    kernel::{Kernel, work},
    outline,
};

const NEXT: i32 = -1;
const SHOT: i32 = 2;

#[classifier]
pub(crate) fn sensor_tc_ingress_eth(ctx: TcContext) -> i32 {
    classify(&ctx, Hook::Ingress, Link::Ethernet)
}

#[classifier]
pub(crate) fn sensor_tc_egress_eth(ctx: TcContext) -> i32 {
    classify(&ctx, Hook::Egress, Link::Ethernet)
}

#[classifier]
pub(crate) fn sensor_tc_ingress_ip(ctx: TcContext) -> i32 {
    classify(&ctx, Hook::Ingress, Link::RawIp)
}

#[classifier]
pub(crate) fn sensor_tc_egress_ip(ctx: TcContext) -> i32 {
    classify(&ctx, Hook::Egress, Link::RawIp)
}

#[inline(always)]
fn classify(ctx: &TcContext, hook: Hook, link: Link) -> i32 {
    let skb = Skb::<true>::new(ctx.skb.skb);
    let Some(work) = work() else { return NEXT };
    let Some(tables) = Kernel::new(skb, hook, work) else { return NEXT };
    let decision = judge(link, &skb, &tables, work);
    // In observe mode this is dead code, and the verifier removes it.
    if enforcing() {
        return match decision {
            Decision::Pass | Decision::OwnReset => NEXT,
            Decision::Blocked | Decision::Limited => SHOT,
            Decision::BlockedReset | Decision::LimitedReset => {
                if outline::sensor_reset(ctx.skb.skb, work, link as u32) == 1 { NEXT } else { SHOT }
            }
        };
    }
    NEXT
}
