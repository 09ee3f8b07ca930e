//! What two ends say to each other: bytes by turn, with the exchanges that are in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Random;

/// One exchange as it must be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Truth {
    /// Method.
    pub method: String,
    /// Host as sent.
    pub host: String,
    /// Target as sent.
    pub path: String,
    /// Status, `None` where no response was sent.
    pub status: Option<u16>,
    /// Client.
    pub client: SocketAddr,
    /// Server.
    pub server: SocketAddr,
}

impl Truth {
    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "method": self.method, "host": self.host, "path": self.path, "status": self.status,
            "client": self.client.to_string(), "server": self.server.to_string(),
        })
    }
}

/// One side speaks.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The client does.
    pub client: bool,
    /// What it sends.
    pub bytes: Vec<u8>,
    /// Offsets where a segment should begin, if segments are cut at all.
    pub cuts: Vec<usize>,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN from both.
    Close,
    /// RST.
    Reset,
    /// The capture ends first.
    Open,
}

/// A connection's contents.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Client address.
    pub client: SocketAddr,
    /// Server address.
    pub server: SocketAddr,
    /// Who says what, in order.
    pub turns: Vec<Turn>,
    /// What must be found.
    pub truth: Vec<Truth>,
    /// How it ends.
    pub end: End,
}

const HOSTS: &[&str] = &[
    "api.example",
    "api.example:8080",
    "shop.internal",
    "10.1.2.3",
    "[2001:db8::1]:8443",
    "a.b.c.d.example",
];
const METHODS: &[&str] = &[
    "GET", "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "HEAD",
    "OPTIONS", "PROPFIND", "QUERY", "FROB", "M-SEARCH",
];
const STATUSES: &[u16] =
    &[200, 200, 200, 200, 201, 204, 206, 301, 304, 400, 401, 404, 404, 429, 500, 503];
const FAKES: &[&str] = &[
    "GET /fake/in/body HTTP/1.1\r\nHost: fake.example\r\n\r\n",
    "POST /fake HTTP/1.1\r\nHost: fake.example\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "0\r\n\r\nGET /fake/after/chunk HTTP/1.1\r\nHost: fake.example\r\n\r\n",
];

impl Conversation {
    /// Makes one.
    pub fn new(random: &mut Random, serial: u32) -> Self {
        let (client, server) = ends(random, serial);
        let mut this =
            Self { client, server, turns: Vec::new(), truth: Vec::new(), end: End::Close };
        this.end = match random.below(10) {
            0 => End::Open,
            1 => End::Reset,
            _ => End::Close,
        };
        match random.below(40) {
            0 => this.noise(random),
            1 => this.tunnel(random),
            2 => this.until_close(random),
            3 => this.unanswered(random),
            _ => {
                let most = if random.chance(30) { 40 } else { 6 };
                let rounds = 1 + random.below(most);
                for _ in 0..rounds {
                    match random.below(10) {
                        0 => this.pipeline(random),
                        1 => this.continued(random),
                        _ => this.simple(random),
                    }
                }
            }
        }
        this
    }

    fn say(&mut self, client: bool, bytes: Vec<u8>, cuts: Vec<usize>) {
        self.turns.push(Turn { client, bytes, cuts });
    }

    fn found(&mut self, method: &str, host: &str, path: &str, status: Option<u16>) {
        self.truth.push(Truth {
            method: method.into(),
            host: host.into(),
            path: path.into(),
            status,
            client: self.client,
            server: self.server,
        });
    }

    fn simple(&mut self, random: &mut Random) {
        let (method, host, path) = request_line(random);
        let status = STATUSES[random.below(STATUSES.len())];
        let (request, cuts) = request(random, method, host, &path, Body::Any);
        self.say(true, request, cuts);
        if random.chance(3) {
            self.say(
                false,
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n".to_vec(),
                Vec::new(),
            );
        }
        let (response, cuts) = response(random, method, status);
        self.say(false, response, cuts);
        self.found(method, host, &path, Some(status));
    }

    fn pipeline(&mut self, random: &mut Random) {
        let (mut requests, mut responses) = (Turn::of(true), Turn::of(false));
        for _ in 0..2 + random.below(12) {
            let (method, host, path) = request_line(random);
            let status = STATUSES[random.below(STATUSES.len())];
            requests.append(request(random, method, host, &path, Body::Any));
            responses.append(response(random, method, status));
            self.found(method, host, &path, Some(status));
        }
        self.turns.extend([requests, responses]);
    }

    fn continued(&mut self, random: &mut Random) {
        let (_, host, path) = request_line(random);
        let status = STATUSES[random.below(STATUSES.len())];
        let (whole, cuts) = request(random, "PUT", host, &path, Body::Continue);
        let head =
            whole.windows(4).position(|part| part == b"\r\n\r\n").map_or(whole.len(), |at| at + 4);
        self.say(true, whole[..head].to_vec(), Vec::new());
        if random.chance(80) {
            self.say(false, b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), Vec::new());
        }
        let cuts =
            cuts.iter().filter_map(|cut| cut.checked_sub(head)).filter(|cut| *cut > 0).collect();
        self.say(true, whole[head..].to_vec(), cuts);
        let (response, cuts) = response(random, "PUT", status);
        self.say(false, response, cuts);
        self.found("PUT", host, &path, Some(status));
    }

    fn until_close(&mut self, random: &mut Random) {
        let (_, host, path) = request_line(random);
        let (request, cuts) = request(random, "GET", host, &path, Body::None);
        self.say(true, request, cuts);
        let mut response = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n".to_vec();
        let (body, cuts) = body(random, 1 + random.clone().below(30_000));
        let cuts = cuts.iter().map(|cut| cut + response.len()).collect();
        response.extend(body);
        self.say(false, response, cuts);
        self.found("GET", host, &path, Some(200));
        self.end = End::Close;
    }

    fn unanswered(&mut self, random: &mut Random) {
        self.simple(random);
        for _ in 0..=random.below(3) {
            let (method, host, path) = request_line(random);
            let (request, cuts) = request(random, method, host, &path, Body::Any);
            self.say(true, request, cuts);
            self.found(method, host, &path, None);
        }
    }

    fn tunnel(&mut self, random: &mut Random) {
        let inside = FAKES.concat().into_bytes();
        if random.chance(50) {
            self.say(
                true,
                b"CONNECT db.internal:443 HTTP/1.1\r\nHost: db.internal:443\r\n\r\n".to_vec(),
                Vec::new(),
            );
            self.say(false, b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec(), Vec::new());
            self.found("CONNECT", "db.internal:443", "db.internal:443", Some(200));
        } else {
            let head = "GET /chat HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            self.say(true, head.into(), Vec::new());
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            self.say(false, answer.into(), Vec::new());
            self.found("GET", "chat.example", "/chat", Some(101));
        }
        for _ in 0..random.below(4) {
            self.say(true, inside.clone(), Vec::new());
            self.say(false, inside.clone(), Vec::new());
        }
    }

    fn noise(&mut self, random: &mut Random) {
        let hello =
            b"\x16\x03\x01\x00\x2a\x01\x00\x00\x26\x03\x03GET / HTTP/1.1\r\nHost: not.this\r\n\r\n"
                .to_vec();
        let (first, answer): (Vec<u8>, &[u8]) = match random.below(4) {
            0 => (hello, b"\x16\x03\x03\x00\x05GET /"),
            1 => (b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n".to_vec(), b"$16\r\nGET / HTTP/1.1\r\n\r\n"),
            2 => (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
                b"\0\0\0\x04\0\0\0\0\0",
            ),
            _ => (b"EHLO client\r\n".to_vec(), b"250 ok\r\n"),
        };
        self.say(true, first, Vec::new());
        self.say(false, answer.to_vec(), Vec::new());
        for _ in 0..random.below(5) {
            self.say(true, FAKES.concat().into_bytes(), Vec::new());
            self.say(false, FAKES.concat().into_bytes(), Vec::new());
        }
    }
}

impl Turn {
    fn of(client: bool) -> Self {
        Self { client, bytes: Vec::new(), cuts: Vec::new() }
    }

    fn append(&mut self, (bytes, cuts): (Vec<u8>, Vec<usize>)) {
        self.cuts.extend(cuts.iter().map(|cut| cut + self.bytes.len()));
        self.bytes.extend(bytes);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    Any,
    Continue,
}

fn ends(random: &mut Random, serial: u32) -> (SocketAddr, SocketAddr) {
    // A server listens on one port, as most do; 12 listeners with 6 host names each.
    let index = random.below(6);
    let server_port = [80, 8080, 8000, 3000, 443, 50_000][index];
    let server = u8::try_from(1 + index).unwrap_or(1);
    // Each connection has its own pair of ends; ports run out after 40 000 per client address.
    let client_port = u16::try_from(20_000 + serial % 40_000).unwrap_or(20_000);
    let host = serial / 40_000;
    if random.chance(25) {
        let client = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, u16::try_from(host).unwrap_or(0));
        let server = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 2, server.into());
        return (
            SocketAddr::new(IpAddr::V6(client), client_port),
            SocketAddr::new(IpAddr::V6(server), server_port),
        );
    }
    let client = Ipv4Addr::from(0x0a00_0001_u32 + (host << 8));
    let server = Ipv4Addr::new(10, 200, 0, server);
    (
        SocketAddr::new(IpAddr::V4(client), client_port),
        SocketAddr::new(IpAddr::V4(server), server_port),
    )
}

fn request_line(random: &mut Random) -> (&'static str, &'static str, String) {
    let method = METHODS[random.below(METHODS.len())];
    let host = HOSTS[random.below(HOSTS.len())];
    let id = random.next_u64();
    let path = match random.below(8) {
        0 => format!("/v1/users/{}", id % 10_000),
        1 => format!("/v1/orders/{}/items?page={}&q=a%20b", id % 10_000, id % 7),
        2 => format!("/static/app.{:x}.js", id % 40),
        3 => "/".into(),
        4 if method == "OPTIONS" => "*".into(),
        4 => format!("http://{host}/absolute/{}", id % 100),
        5 => format!("/search?q={}", "x".repeat(random.below(1500))),
        6 => format!("/caf\u{e9}/{}", id % 10),
        _ => format!("/v2/{:016x}/{}", id, id % 3),
    };
    (method, host, path)
}

fn request(
    random: &mut Random,
    method: &str,
    host: &str,
    path: &str,
    body_kind: Body,
) -> (Vec<u8>, Vec<usize>) {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
    );
    if random.chance(20) {
        head += "Authorization: Bearer eyJhbGciOi.J9.x\r\n";
    }
    if random.chance(10) {
        head.extend(["Cookie: session=", &"c".repeat(random.below(6000)), "\r\n"]);
    }
    let with_body = match body_kind {
        Body::None => false,
        Body::Continue => true,
        Body::Any => matches!(method, "POST" | "PUT" | "PATCH" | "QUERY" | "FROB"),
    };
    if body_kind == Body::Continue {
        head += "Expect: 100-continue\r\n";
    }
    message(random, head, with_body, false)
}

fn response(random: &mut Random, method: &str, status: u16) -> (Vec<u8>, Vec<usize>) {
    let mut head = format!(
        "HTTP/1.1 {status} Some Reason\r\nServer: test\r\nContent-Type: application/json\r\n"
    );
    if random.chance(30) {
        head += "Cache-Control: no-store\r\nX-Request-Id: 01234567-89ab-cdef\r\n";
    }
    if method == "HEAD" || status == 204 || status == 304 {
        if method == "HEAD" && random.chance(80) {
            head += "Content-Length: 1234\r\n";
        }
        return (format!("{head}\r\n").into(), Vec::new());
    }
    message(random, head, true, true)
}

fn message(
    random: &mut Random,
    mut head: String,
    with_body: bool,
    response: bool,
) -> (Vec<u8>, Vec<usize>) {
    if !with_body {
        return (format!("{head}\r\n").into(), Vec::new());
    }
    let rare = random.chance(15);
    let size = match random.below(10) {
        0 => 0,
        1 if rare => random.below(60_000),
        1 => random.below(3_000),
        2 => random.below(5_000),
        _ => random.below(700),
    };
    let (body, cuts) = body(random, size);
    if random.chance(35) {
        head += "Transfer-Encoding: chunked\r\n";
        if random.chance(20) {
            head += "Trailer: X-Sum\r\n";
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        let mut places = Vec::new();
        let mut rest = &body[..];
        while !rest.is_empty() {
            let len = (1 + random.below(3_000)).min(rest.len());
            let extension = if random.chance(10) { ";name=\"value\"" } else { "" };
            bytes.extend(format!("{len:x}{extension}\r\n").bytes());
            places.push(bytes.len());
            bytes.extend(&rest[..len]);
            bytes.extend(b"\r\n");
            rest = &rest[len..];
        }
        let trailer = if random.chance(20) { "X-Sum: 1\r\nGET: /fake HTTP/1.1\r\n" } else { "" };
        bytes.extend(format!("0\r\n{trailer}\r\n").bytes());
        return (bytes, places);
    }
    if size == 0 && response && random.chance(50) {
        head += "Content-Length: 0\r\n";
    } else {
        head.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
    }
    head += "\r\n";
    let start = head.len();
    let mut bytes = head.into_bytes();
    bytes.extend(&body);
    (bytes, cuts.iter().map(|cut| cut + start).collect())
}

/// A body, often with requests and responses in it, and where these begin.
fn body(random: &mut Random, size: usize) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::with_capacity(size);
    let mut cuts = Vec::new();
    let fakes = random.chance(25);
    while bytes.len() < size {
        if fakes {
            cuts.push(bytes.len());
            bytes.extend(random.pick(FAKES).as_bytes());
        }
        let filler = random.below(200).max(40);
        bytes.extend(std::iter::repeat_n(b'a' + u8::try_from(filler % 26).unwrap_or(0), filler));
        bytes.extend(b"\r\n");
    }
    bytes.truncate(size);
    cuts.retain(|cut| *cut < size && *cut > 0);
    (bytes, cuts)
}
