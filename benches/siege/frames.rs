//! HTTP/2 attacks as the bytes an attacker writes, made by hand so that no library keeps us from them.

/// A name, and everything it writes; every one of them goes over a limit of 7-promises.md.
pub(crate) struct Flood {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const NOTHING: u8 = 0;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:method GET`, `:scheme https`, `:path /`.
const GET: [u8; 3] = [0x82, 0x87, 0x84];

pub(crate) fn floods() -> Vec<Flood> {
    let flood = |name, start: Vec<u8>, units: Vec<Vec<u8>>| {
        let bytes = [opening(), start, units.concat()].concat();
        Flood { name, bytes }
    };
    let streams = |count: u32| (0..count).map(|number| 2 * number + 1);
    let post = post();
    let begun = |stream| frame(HEADERS, END_HEADERS, stream, &post);
    let reset = |stream| [begun(stream), frame(RST_STREAM, NOTHING, stream, &8u32.to_be_bytes())].concat();
    let overflow = 0x7fff_ffff_u32.to_be_bytes();
    let made_reset = |stream| [begun(stream), frame(WINDOW_UPDATE, NOTHING, stream, &overflow)].concat();
    // Twenty headers `a: b`, not to be indexed.
    let more = [0x00, 1, b'a', 1, b'b'].repeat(20);
    let copies = [GET.as_slice(), &[0xbe; 2_000]].concat();
    let bomb = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &copies);
    vec![
        flood("rapid reset", Vec::new(), streams(2_000).map(reset).collect()),
        flood("MadeYouReset", Vec::new(), streams(2_000).map(made_reset).collect()),
        flood(
            "CONTINUATION flood",
            frame(HEADERS, NOTHING, 1, &GET),
            vec![frame(CONTINUATION, NOTHING, 1, &more); 5_000],
        ),
        flood("HPACK bomb", fuse(), streams(1_000).skip(1).map(bomb).collect()),
        // 9 bytes each: 5 000 of them would be within what a connection may waste at once (256 KiB).
        flood("empty DATA", begun(1), vec![frame(DATA, NOTHING, 1, &[]); 100_000]),
        flood("PING flood", Vec::new(), vec![frame(PING, NOTHING, 0, &[7; 8]); 100_000]),
        flood("SETTINGS flood", Vec::new(), vec![frame(SETTINGS, NOTHING, 0, &[]); 100_000]),
    ]
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface and empty SETTINGS.
fn opening() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, NOTHING, 0, &[])].concat()
}

/// The header block of a post of lines whose body is still to come.
fn post() -> Vec<u8> {
    // :method POST, :scheme https, then :path (4) and content-type (31) as literals.
    let (path, lines) = (b"/mesh/v1/events".as_slice(), afferent::wire::message::LINES_TYPE.as_bytes());
    [&[0x83, 0x87, 0x04, path.len() as u8], path, &[0x0f, 31 - 15, lines.len() as u8], lines].concat()
}

/// A request that puts one header of 4 001 bytes into the dynamic table, where 0xbe means it.
fn fuse() -> Vec<u8> {
    // 4 000 as an HPACK integer with a prefix of 7 bits (RFC 7541 section 5.1).
    let length = [0x7f, (((4_000 - 127) & 127) | 128) as u8, ((4_000 - 127) >> 7) as u8];
    let block = [GET.as_slice(), &[0x40, 1, b'a'], &length, &[b'x'; 4_000]].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
}
