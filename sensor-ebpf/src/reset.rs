//! Turns a TCP packet that a `reset` rule hit into two RSTs: a copy goes back the way it came, the packet itself goes on.
//!
//! The packet is cut to its headers (IP options and extension headers stay, TCP options go), written as the RST for its sender, cloned
//! back through the same device, and written again as the RST for its receiver. Which segments these are says `verdict::reset`.
//! What the kernel does not let be rewritten (an encapsulated skb, no memory) is dropped and counted.
//!
//! Checksums: a program cannot ask whether the skb's is to be filled in by the card (`CHECKSUM_PARTIAL`), was summed by the card
//! (`CHECKSUM_COMPLETE`) or neither. 0xffff in the field, then the pseudo-header's sum by `BPF_F_PSEUDO_HDR`, then the header's without is
//! right for the first and the last (net/core/utils.c, `inet_proto_csum_replace_by_diff`); `bpf_csum_update` makes up for the card's sum.
//!
//! `unsafe` here calls helpers with the skb of this sighting and with buffers on the stack.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM},
    helpers::{
        bpf_clone_redirect, bpf_csum_update, bpf_l3_csum_replace, bpf_l4_csum_replace,
        bpf_skb_change_tail, bpf_skb_store_bytes,
    },
};
use sensor_ebpf::{
    abi::{counter::Counter, sample::Hook},
    packet::{Link, PacketBytes},
    tables::Tables,
    verdict::reset::{self, HOP_LIMIT, Rst, TCP_BYTES},
    work::Work,
};

use crate::{
    cell::Cell,
    context::Skb,
    globals::{reset_key, resets_bounded},
    kernel::Kernel,
    maps::{RESET_HEADERS, RESETS},
};

const TCP_CHECKSUM: u32 = 16;
const IPV4_LENGTH: u32 = 2;
const IPV4_TTL: u32 = 8;
const IPV4_CHECKSUM: u32 = 10;
const IPV4_ADDRESSES: u32 = 12;
const IPV6_LENGTH: u32 = 4;
const IPV6_HOP_LIMIT: u32 = 7;
const IPV6_ADDRESSES: u32 = 8;
const IPV6_BYTES: u32 = 40;
/// Checksum field and urgent pointer before the sums are added.
const EMPTY_CHECKSUM: u32 = 0xffff_0000;

/// Answers the packet of this sighting; true when it goes on as a RST, false when it is to be dropped.
#[inline(always)]
pub(crate) fn answer(link: Link, skb: Skb<true>, tables: &Kernel<true>, work: &Work) -> bool {
    if resets_bounded() {
        let Some(cell) = RESETS.get_ptr_mut(0) else { return false };
        if !reset::admits(&Cell(cell), tables.now_ns()) {
            tables.count(Counter::ResetsSuppressed);
            return false;
        }
    }
    let told = rewrite(link, skb, tables, work);
    let both = told == Some(true);
    tables.count(if both { Counter::ResetsSent } else { Counter::ResetsFailed });
    told.is_some()
}

/// Tells both ends; `None` when the packet could not be rewritten, `Some(false)` when only its receiver is told.
#[inline(always)]
fn rewrite(link: Link, skb: Skb<true>, tables: &Kernel<true>, work: &Work) -> Option<bool> {
    // A copy outside the scratch: the clone may run the program of another hook, in the same scratch, before the helper returns.
    // (It never comes here: what it sees is our own RST.)
    let kept = RESET_HEADERS.get_ptr_mut(0)?;
    // SAFETY: per-CPU memory, valid until the program ends.
    let headers = unsafe { &mut *kept };
    *headers = work.headers;
    let headers = &*headers;
    let hook = tables.hook(work);
    let network = reset::network_offset(link, &skb)?;
    let four = headers.family == 4;
    let mut at = Packet { skb: skb.as_ptr(), network, transport: headers.transport, four };
    at.cut()?;
    let tuple = &headers.tuple;
    let pseudo = reset::pseudo_sum(tuple, headers.family);
    let mut told = true;
    if let Some(back) = reset::back(headers) {
        let macs = if matches!(link, Link::Ethernet) { Some(at.swap_macs()?) } else { None };
        at.addresses(&tuple.dst, &tuple.src)?;
        let hops = at.set_hops(HOP_LIMIT)?;
        at.tcp(&back, ports(tuple.dst_port, tuple.src_port), pseudo)?;
        // Out of the device that it came from, or up from the device that it was to leave by.
        let direction = if hook == Hook::Ingress as u8 { 0 } else { u64::from(BPF_F_INGRESS) };
        // SAFETY: the skb of this sighting.
        let error = unsafe { bpf_clone_redirect(at.skb, tables.ifindex(), direction) };
        told = error == 0;
        if let Some(macs) = macs {
            at.put_macs(macs)?;
        }
        at.addresses(&tuple.src, &tuple.dst)?;
        at.set_hops(hops)?;
    }
    at.tcp(&reset::forward(headers), ports(tuple.src_port, tuple.dst_port), pseudo)?;
    Some(told)
}

const fn ports(src: u16, dst: u16) -> u32 {
    (src as u32) << 16 | dst as u32
}

/// The two halves of the addresses of an Ethernet header: eight bytes, then four, the first byte the highest.
#[derive(Clone, Copy)]
struct Macs(u64, u32);

/// The packet under the pen.
struct Packet {
    skb: *mut __sk_buff,
    network: u32,
    transport: u32,
    four: bool,
}

impl Packet {
    /// Cuts the packet to its headers, with no TCP options, and makes the IP header say so.
    #[inline(always)]
    fn cut(&mut self) -> Option<()> {
        let len = self.transport + TCP_BYTES;
        // SAFETY: the skb of this sighting. (The kernel refuses what would cut its headers.)
        let error = unsafe { bpf_skb_change_tail(self.skb, len, 0) };
        if error != 0 {
            return None;
        }
        if self.four {
            let total = (len - self.network) as u16;
            return self.ipv4_field(IPV4_LENGTH, total).map(drop);
        }
        let payload = (len - self.network - IPV6_BYTES) as u16;
        self.store(self.network + IPV6_LENGTH, &payload.to_be_bytes(), BPF_F_RECOMPUTE_CSUM.into())
    }

    /// Replaces a 16-bit field of the IPv4 header and makes its checksum follow; gives what was there.
    #[inline(never)]
    fn ipv4_field(&mut self, field: u32, value: u16) -> Option<u16> {
        let before = self.bytes().load::<u16>(self.network + field)?;
        // The sum over the header stays the same: nothing to recompute.
        self.store(self.network + field, &value.to_be_bytes(), 0)?;
        let (from, to) = (u64::from(before.to_be()), u64::from(value.to_be()));
        // SAFETY: the skb of this sighting.
        let error =
            unsafe { bpf_l3_csum_replace(self.skb, self.network + IPV4_CHECKSUM, from, to, 2) };
        (error == 0).then_some(before)
    }

    /// Sets the hop limit; gives the one before.
    #[inline(never)]
    fn set_hops(&mut self, hops: u8) -> Option<u8> {
        if self.four {
            let [_, protocol] = self.bytes().load::<u16>(self.network + IPV4_TTL)?.to_be_bytes();
            let before = self.ipv4_field(IPV4_TTL, u16::from_be_bytes([hops, protocol]))?;
            let [before, _] = before.to_be_bytes();
            return Some(before);
        }
        let next = self.bytes().load::<u16>(self.network + IPV6_HOP_LIMIT - 1)?;
        let [_, before] = next.to_be_bytes();
        self.store(self.network + IPV6_HOP_LIMIT, &[hops], BPF_F_RECOMPUTE_CSUM.into())?;
        Some(before)
    }

    /// Writes the addresses. Only ever the same two, one way or the other: no sum changes.
    #[inline(never)]
    fn addresses(&mut self, src: &[u8; 16], dst: &[u8; 16]) -> Option<()> {
        if self.four {
            // The last four bytes of each.
            let [src, dst] = [src, dst].map(|address| u128::from_be_bytes(*address) as u64);
            let both = src << 32 | dst & u64::from(u32::MAX);
            return self.store(self.network + IPV4_ADDRESSES, &both.to_be_bytes(), 0);
        }
        self.store(self.network + IPV6_ADDRESSES, src, 0)?;
        self.store(self.network + IPV6_ADDRESSES + 16, dst, 0)
    }

    /// Swaps the addresses of the Ethernet header; gives them as they were.
    #[inline(always)]
    fn swap_macs(&mut self) -> Option<Macs> {
        let before = Macs(self.bytes().load::<u64>(0)?, self.bytes().load::<u32>(8)?);
        let dst = before.0 >> 16;
        let src = (before.0 & 0xffff) << 32 | u64::from(before.1);
        self.put_macs(Macs(src << 16 | dst >> 32, dst as u32))?;
        Some(before)
    }

    #[inline(always)]
    fn put_macs(&mut self, macs: Macs) -> Option<()> {
        self.store(0, &macs.0.to_be_bytes(), 0)?;
        self.store(8, &macs.1.to_be_bytes(), 0)
    }

    /// Writes the TCP header and its checksum.
    #[inline(never)]
    fn tcp(&mut self, rst: &Rst, ports: u32, pseudo: u16) -> Option<()> {
        let words = reset::words(*rst, reset::signature(reset_key(), *rst), ports);
        let sum = u32::from(reset::header_sum(&words).to_be());
        let [ports, seq, ack, flags, _] = words;
        let wire = [ports.to_be(), seq.to_be(), ack.to_be(), flags.to_be(), EMPTY_CHECKSUM.to_be()];
        let recompute = u64::from(BPF_F_RECOMPUTE_CSUM);
        // SAFETY: 20 bytes on the stack; the skb of this sighting.
        let error = unsafe {
            bpf_skb_store_bytes(
                self.skb,
                self.transport,
                (&raw const wire).cast(),
                TCP_BYTES,
                recompute,
            )
        };
        if error != 0 {
            return None;
        }
        let field = self.transport + TCP_CHECKSUM;
        let pseudo = u64::from(pseudo.to_be());
        // SAFETY: the skb of this sighting.
        let error =
            unsafe { bpf_l4_csum_replace(self.skb, field, 0, pseudo, BPF_F_PSEUDO_HDR.into()) };
        if error != 0 {
            return None;
        }
        // SAFETY: as above.
        let error = unsafe { bpf_l4_csum_replace(self.skb, field, 0, u64::from(sum), 0) };
        // SAFETY: as above. Fails where the card summed nothing, which is as well.
        let _not_summed = unsafe { bpf_csum_update(self.skb, !sum) };
        (error == 0).then_some(())
    }

    fn bytes(&self) -> Skb<true> {
        Skb::new(self.skb)
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, at: u32, bytes: &[u8; N], flags: u64) -> Option<()> {
        let from: *const c_void = bytes.as_ptr().cast();
        // SAFETY: N readable bytes; the skb of this sighting.
        let error = unsafe { bpf_skb_store_bytes(self.skb, at, from, N as u32, flags) };
        (error == 0).then_some(())
    }
}
