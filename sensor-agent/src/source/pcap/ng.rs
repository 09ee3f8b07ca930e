//! pcapng: sections, interfaces with their time units, enhanced, simple and old packet blocks; the rest is skipped.
//!
//! Bound: [`INTERFACES_MAX`] interfaces a section; blocks that carry no packet are skipped without being held.

use std::io::Read;

use super::{CaptureError, Input, Order, Packet, RECORD_BYTES_MAX};

const INTERFACES_MAX: usize = 4096;
const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// State of the current section.
#[derive(Debug, Default)]
pub(super) struct Section {
    order: Option<Order>,
    interfaces: Vec<Interface>,
    /// Time of the packet before: a simple packet block has none of its own.
    last_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u32,
    snap_len: u32,
    /// Time units per second.
    units: u64,
    offset_seconds: i64,
}

/// Whether a file begins with a section header block.
pub(super) fn is_section(head: &[u8]) -> bool {
    Order::Big.u32(head, 0) == SECTION && head.len() >= 4
}

impl Section {
    pub(super) fn next<'a, R: Read>(
        &mut self,
        input: &'a mut Input<R>,
    ) -> Result<Option<Packet<'a>>, CaptureError> {
        loop {
            let there = input.fill(12)?;
            if there < 12 {
                let at = input.offset + there as u64;
                return if there == 0 {
                    Ok(None)
                } else {
                    Err(CaptureError::Cut { at, what: "block header" })
                };
            }
            let head = input.peek();
            let damaged = |what| CaptureError::Damaged { at: input.offset, what };
            if Order::Big.u32(head, 0) == SECTION {
                self.order = Some(match (Order::Big.u32(head, 8), Order::Little.u32(head, 8)) {
                    (BYTE_ORDER, _) => Order::Big,
                    (_, BYTE_ORDER) => Order::Little,
                    _ => return Err(damaged("a section without byte order")),
                });
                self.interfaces.clear();
            }
            let Some(order) = self.order else { return Err(damaged("no section header")) };
            let kind = order.u32(head, 0);
            let len = order.u32(head, 4) as usize;
            if len < 12 || !len.is_multiple_of(4) {
                return Err(damaged("a block with an impossible length"));
            }
            if !matches!(kind, 1 | 2 | 3 | 6) {
                if !input.skip(len as u64)? {
                    return Err(CaptureError::Cut { at: input.offset, what: "block" });
                }
                continue;
            }
            if len > RECORD_BYTES_MAX {
                return Err(damaged("a packet block of more than 2 MiB"));
            }
            let there = input.fill(len)?;
            if there < len {
                return Err(CaptureError::Cut { at: input.offset + there as u64, what: "block" });
            }
            let at = input.offset;
            input.consume(len);
            if kind == 1 {
                self.interface(order, input.behind(len), at)?;
                continue;
            }
            let Some(found) = self.locate(order, kind, input.behind(len)) else {
                return Err(CaptureError::Damaged {
                    at,
                    what: "a packet block that contradicts itself",
                });
            };
            let data = input.behind(len).get(found.from..found.to).unwrap_or_default();
            self.last_ns = found.time_ns;
            return Ok(Some(Packet {
                time_ns: found.time_ns,
                link: found.link,
                data,
                wire_len: found.wire_len,
            }));
        }
    }

    fn interface(&mut self, order: Order, block: &[u8], at: u64) -> Result<(), CaptureError> {
        if self.interfaces.len() >= INTERFACES_MAX || block.len() < 20 {
            return Err(CaptureError::Damaged {
                at,
                what: "too many interfaces, or one cut short",
            });
        }
        let mut interface = Interface {
            link: u32::from(order.u16(block, 8)),
            snap_len: order.u32(block, 12),
            units: 1_000_000,
            offset_seconds: 0,
        };
        let mut options = block.get(16..block.len() - 4).unwrap_or_default();
        while options.len() >= 4 {
            let (code, len) = (order.u16(options, 0), usize::from(order.u16(options, 2)));
            let value = options.get(4..4 + len).unwrap_or_default();
            match (code, value) {
                (0, _) => break,
                (9, &[unit]) => interface.units = units(unit),
                (14, &[_, _, _, _, _, _, _, _]) => {
                    let (first, second) =
                        (u64::from(order.u32(value, 0)), u64::from(order.u32(value, 4)));
                    let joined = if order == Order::Big {
                        first << 32 | second
                    } else {
                        second << 32 | first
                    };
                    interface.offset_seconds = joined.cast_signed();
                }
                _ => {}
            }
            options = options.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
        self.interfaces.push(interface);
        Ok(())
    }

    fn locate(&self, order: Order, kind: u32, block: &[u8]) -> Option<Found> {
        let (header, index) = match kind {
            3 => (12, 0),
            6 => (28, order.u32(block, 8)),
            _ => (28, u32::from(order.u16(block, 8))),
        };
        let interface = self.interfaces.get(usize::try_from(index).ok()?)?;
        let room = block.len().checked_sub(header + 4)?;
        let (captured, wire_len, time_ns) = if kind == 3 {
            let wire_len = order.u32(block, 8);
            let snap = if interface.snap_len == 0 { u32::MAX } else { interface.snap_len };
            (wire_len.min(snap) as usize, wire_len, self.last_ns)
        } else {
            let stamp = u64::from(order.u32(block, 12)) << 32 | u64::from(order.u32(block, 16));
            (order.u32(block, 20) as usize, order.u32(block, 24), interface.time_ns(stamp))
        };
        if captured > room {
            return None;
        }
        Some(Found { from: header, to: header + captured, time_ns, wire_len, link: interface.link })
    }
}

struct Found {
    from: usize,
    to: usize,
    time_ns: u64,
    wire_len: u32,
    link: u32,
}

impl Interface {
    fn time_ns(&self, stamp: u64) -> u64 {
        let nanoseconds = u128::from(stamp) * 1_000_000_000 / u128::from(self.units);
        let nanoseconds = i128::try_from(nanoseconds).unwrap_or(0)
            + i128::from(self.offset_seconds) * 1_000_000_000;
        u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX)
    }
}

/// Units per second of an `if_tsresol` byte; one that is too fine counts as nanoseconds.
fn units(unit: u8) -> u64 {
    let exponent = u32::from(unit & 0x7f);
    let base: u64 = if unit & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(exponent).unwrap_or(1_000_000_000)
}
