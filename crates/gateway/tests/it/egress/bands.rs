//! What a git host says of the credential that opens it while it sends what is fetched: beside the pack, and in it.

use crate::egress::origin::{Words, said, with};
use crate::egress::world::{TOKEN, World, any};
use crate::house::{Got, HANDLE, parse, placeholder, soon};
use http::{Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HOST: &str = "api.example";

fn line(data: &[u8]) -> Vec<u8> {
    [format!("{:04x}", data.len() + 4).as_bytes(), data].concat()
}

fn packet(band: u8, data: &[u8]) -> Vec<u8> {
    line(&[&[band], data].concat())
}

fn text() -> String {
    format!("it was {TOKEN}, yes")
}

/// What is sent at this path: how, and where what is said is cut.
pub fn sent(path: &str) -> Response<Words> {
    let (how, cut) = path.split_once('/').expect("how, and where");
    let cut: usize = cut.split('/').next().and_then(|cut| cut.parse().ok()).expect("a number");
    let text = text();
    let (begins, ends) = text.as_bytes().split_at(cut);
    let (v0, v2) = (line(b"NAK\n"), [&line(b"acknowledgments\n")[..], b"0001", &line(b"packfile\n")].concat());
    let pack = packet(1, b"PACK\0\x02");
    let body = match how {
        "progress" => [&v0[..], &packet(2, begins), &pack, &packet(2, ends), b"0000"].concat(),
        "errors" => [&v2[..], &pack, &packet(3, begins), &packet(3, ends), b"0000"].concat(),
        "both" => [&v2[..], &packet(2, begins), &pack, &packet(3, ends), b"0000"].concat(),
        "line" => line(format!("ERR {text}\n").as_bytes()),
        "pack" => [&v2[..], &pack, &packet(1, begins), &packet(1, ends), b"0000"].concat(),
        "bare" => [&v0[..], b"PACK\0\x02", text.as_bytes()].concat(),
        _ => b"no line".to_vec(),
    };
    with(said(StatusCode::OK, body), "content-type", "application/x-git-upload-pack-result")
}

/// A fetch of one commit, at the run's door.
pub fn fetch() -> Vec<u8> {
    let body = [&line(format!("want {} side-band-64k\n", "1".repeat(40)).as_bytes())[..], b"0000", &line(b"done\n")];
    let body = body.concat();
    let head = format!(
        "POST /git/app/git-upload-pack HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {HANDLE}\r\nconnection: close\r\n\
         content-type: application/x-git-upload-pack-request\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Half of an answer to it: the pack begins, and is not whole. Of what comes the end waits for more, as long as a form of a value.
pub fn half() -> Vec<u8> {
    [line(b"NAK\n"), packet(1, b"PACK\0\x02"), packet(1, &[0; 4096]).repeat(16)].concat()
}

/// All that comes of a fetch, to the end of its connection.
async fn fetched(world: &World, how: &str, cut: usize) -> Vec<u8> {
    let url = format!("https://{HOST}/told/sent/{how}/{cut}");
    world.desk(|desk| desk.repository = Some((url, Some(TOKEN.to_owned()))));
    let request = fetch();
    soon("an answer", async {
        let mut stream = TcpStream::connect(world.house.door).await.expect("the door is open");
        stream.write_all(&request).await.expect("written");
        let mut all = Vec::new();
        // It may be cut.
        drop(stream.read_to_end(&mut all).await);
        all
    })
    .await
}

/// What packets of this band say, one after the other.
fn of_band(got: &Got, bands: std::ops::RangeInclusive<u8>) -> String {
    let (mut rest, mut text) = (&got.body[..], Vec::new());
    while !rest.is_empty() {
        let length = std::str::from_utf8(&rest[..4]).expect("digits");
        let length = usize::from_str_radix(length, 16).expect("a length").max(4);
        if let [band, data @ ..] = &rest[4..length]
            && bands.contains(band)
        {
            text.extend_from_slice(data);
        }
        rest = &rest[length..];
    }
    String::from_utf8(text).expect("text")
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_git_host_says_beside_a_pack_tells_no_credential_wherever_its_packets_cut_it() {
    let world = World::with(any()).await;
    world.names.set(HOST, &[&["93.184.216.34"]]);
    let placed = placeholder("capability/forge", TOKEN);
    let is = format!("it was {placed}, yes");
    for how in ["progress", "errors", "both"] {
        for cut in 0..=text().len() {
            let got = parse(&fetched(&world, how, cut).await, true);
            assert!(got.whole, "{how}, {cut}");
            assert_eq!(of_band(&got, 2..=3), is, "{how}, {cut}");
            assert_eq!(of_band(&got, 1..=1), "PACK\0\x02", "{how}, {cut}");
        }
    }
    let got = parse(&fetched(&world, "line", 0).await, true);
    assert_eq!(got.body, line(format!("ERR {is}\n").as_bytes()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_fetch_ends_before_a_credential_in_its_pack_and_before_what_is_no_line() {
    let world = World::with(any()).await;
    world.names.set(HOST, &[&["93.184.216.34"]]);
    for (how, cut) in [("pack", 0), ("pack", 9), ("pack", 20), ("bare", 0), ("none", 0)] {
        let got = fetched(&world, how, cut).await;
        world.saw();
        let whole = got.ends_with(b"0\r\n\r\n");
        let text = String::from_utf8_lossy(&got);
        assert!(!whole, "{how}, {cut}: {text}");
        let why = "a value that the host was given stands in its pack";
        assert_eq!(how == "pack", text.contains(why), "{how}, {cut}: {text}");
        assert!(["tok-", "scrubbed", "no line"].iter().all(|none| !text.contains(none)), "{how}, {cut}: {text}");
    }
}
