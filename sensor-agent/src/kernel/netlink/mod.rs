//! A small netlink: links, addresses, default routes, `clsact` qdiscs and BPF filters, TCP sockets; nothing else.
//!
//! Messages are built and read on byte slices without `unsafe` (zerocopy headers); a short or odd message is
//! skipped, never trusted. Source: include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,pkt_sched,pkt_cls,sock_diag,inet_diag}.h.

pub(crate) mod diag;
pub(crate) mod filter;
pub(crate) mod message;
pub(crate) mod record;
pub(crate) mod socket;
