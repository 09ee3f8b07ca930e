//! One connection under several tuples.

use super::*;

#[test]
fn nat_makes_an_alias_and_counts_once() {
    let mut connection = Connection::new(1);
    connection.host.settings.hooks = 4;
    let outer = |segment: &Segment, from: From| {
        let mut outer = segment.clone();
        match from {
            From::Client => {
                outer.src = [192, 0, 2, 9];
                outer.src_port = 1234;
                outer.dst = [192, 0, 2, 1];
            }
            From::Server => {
                outer.dst = [192, 0, 2, 9];
                outer.dst_port = 1234;
                outer.src = [192, 0, 2, 1];
            }
        }
        outer
    };
    let both = |connection: &mut Connection, segment: Segment, from: From| {
        let other = outer(&segment, from);
        let order = if from == From::Client {
            [(1, other), (2, segment)]
        } else {
            [(2, segment), (1, other)]
        };
        for (ifindex, segment) in order {
            connection.host.ifindex = ifindex;
            connection.host.see(Link::Ethernet, &segment.frame());
        }
    };
    let syn = connection.segment(From::Client, connection.client_seq, TcpFlags::SYN, &[]);
    both(&mut connection, syn, From::Client);
    connection.client_seq = connection.client_seq.wrapping_add(1);
    let answer = connection.segment(From::Server, connection.server_seq, TcpFlags::SYN | ACK, &[]);
    both(&mut connection, answer, From::Server);
    connection.server_seq += 1;
    for _ in 0..10 {
        let request = connection.segment(
            From::Client,
            connection.client_seq,
            ACK,
            b"GET /a HTTP/1.1\r\n\r\n",
        );
        connection.client_seq = connection.client_seq.wrapping_add(19);
        both(&mut connection, request, From::Client);
        let response = connection.segment(
            From::Server,
            connection.server_seq,
            ACK,
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        );
        connection.server_seq += 38;
        both(&mut connection, response, From::Server);
    }
    connection.check_ledger();
    let host = &connection.host;
    assert_eq!(host.counter(Counter::RequestHeads), 10);
    assert_eq!(host.counter(Counter::ResponseHeads), 10);
    assert_eq!(connection.heads().len(), 20);
    assert_eq!(host.flows.borrow().len(), 1);
    let records = host.records.borrow();
    let aliases = records.iter().filter(|(header, _)| header.kind == SampleKind::FlowAlias as u8);
    assert_eq!(aliases.count(), 1);
    for (header, _) in
        records.iter().filter(|(header, _)| header.kind == SampleKind::RequestHead as u8)
    {
        assert_eq!(header.tuple.src_port, 1234, "the canonical tuple is the first sighting's");
    }
}
