//! Answers to requests with a credential, out of the encoding that a host put them in although none was asked for: what
//! cannot be read cannot be scrubbed.
//!
//! Decoded is what came out of gzip or zlib whole, checksum and all. What follows the end, ends too early, or grows
//! beyond [`DECODED_BYTES`] breaks the answer off. Little is held: the bytes of one piece that came, and one piece that
//! goes on.
//!
//! Read [`Encoding::of`], then [`Decoder::feed`] and [`Decoder::next`].

use super::limits::DECODED_BYTES;
use bytes::{Buf as _, Bytes};
use flate2::bufread::{GzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use std::io::{self, BufRead, Read};

/// Most that is decoded at once, in bytes.
const PIECE: usize = 16 * 1024;

/// An encoding that can be taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `gzip`, of one member.
    Gzip,
    /// `deflate`, which is zlib's format.
    Zlib,
}

/// An encoding that cannot be taken off here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl Encoding {
    /// What an answer's headers say of its body; none when it is as it is.
    ///
    /// # Errors
    /// [`Unreadable`] for another encoding, several of them, and one of the transfer.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Unreadable> {
        if Self::named(headers, &header::TRANSFER_ENCODING).any(|name| name != "chunked") {
            return Err(Unreadable);
        }
        let mut all = Self::named(headers, &header::CONTENT_ENCODING).filter(|name| name != "identity");
        match (all.next().as_deref(), all.next()) {
            (None, _) => Ok(None),
            (Some("gzip" | "x-gzip"), None) => Ok(Some(Self::Gzip)),
            (Some("deflate"), None) => Ok(Some(Self::Zlib)),
            _ => Err(Unreadable),
        }
    }

    fn named<'h>(headers: &'h HeaderMap, name: &'h header::HeaderName) -> impl Iterator<Item = String> + 'h {
        // What is no text is no encoding that anybody knows.
        let words = |value: &'h http::HeaderValue| value.to_str().unwrap_or("unreadable").split(',');
        headers.get_all(name).iter().flat_map(words).map(|word| word.trim().to_ascii_lowercase())
    }
}

/// Takes an encoding off, piece by piece.
pub(crate) struct Decoder {
    from: From,
    /// Bytes that may still come out.
    left: u64,
    /// All that belongs to the encoding was read.
    over: bool,
}

enum From {
    Gzip(Box<GzDecoder<Fed>>),
    Zlib(Box<ZlibDecoder<Fed>>),
}

impl Decoder {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self::bounded(encoding, DECODED_BYTES)
    }

    fn bounded(encoding: Encoding, left: u64) -> Self {
        let from = match encoding {
            Encoding::Gzip => From::Gzip(Box::new(GzDecoder::new(Fed::default()))),
            Encoding::Zlib => From::Zlib(Box::new(ZlibDecoder::new(Fed::default()))),
        };
        Self { from, left, over: false }
    }

    /// Takes what came, once [`Self::next`] has nothing more of what came before; none says that nothing more comes.
    pub(crate) fn feed(&mut self, bytes: Option<Bytes>) {
        let fed = self.fed();
        match bytes {
            Some(bytes) => fed.bytes = bytes,
            None => fed.ended = true,
        }
    }

    /// The next piece of what was fed. None when more must be fed, and at the end.
    ///
    /// # Errors
    /// When what was fed is not of the encoding, ends too early or too late, or is too long.
    pub(crate) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut piece = vec![0; PIECE];
        while !self.over {
            let read = match &mut self.from {
                From::Gzip(from) => from.read(&mut piece),
                From::Zlib(from) => from.read(&mut piece),
            };
            match read {
                Ok(0) => self.over = true,
                Ok(length) => {
                    let left = self.left.checked_sub(length as u64);
                    self.left = left.ok_or_else(|| unreadable("the answer is longer than may be decoded"))?;
                    piece.truncate(length);
                    return Ok(Some(piece.into()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(_) => return Err(unreadable("the answer is not in the encoding that its head names")),
            }
        }
        if self.fed().bytes.is_empty() { Ok(None) } else { Err(unreadable("bytes follow the end of the encoding")) }
    }

    fn fed(&mut self) -> &mut Fed {
        match &mut self.from {
            From::Gzip(from) => from.get_mut(),
            From::Zlib(from) => from.get_mut(),
        }
    }
}

fn unreadable(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What came and was not read yet.
#[derive(Default)]
struct Fed {
    bytes: Bytes,
    ended: bool,
}

impl BufRead for Fed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.bytes.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&self.bytes)
    }
    fn consume(&mut self, amount: usize) {
        self.bytes.advance(amount);
    }
}

impl Read for Fed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(into)?;
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use std::io::Write as _;

    const WORDS: &[u8] = b"a few words, and a few words again, and again a few words";

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// A head with every part that one may have.
    fn gzip_with_a_whole_head(plain: &[u8]) -> Vec<u8> {
        let builder = flate2::GzBuilder::new().filename("a name").comment("words").extra(vec![7; 300]).mtime(1);
        let mut encoder = builder.write(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(encoding: Encoding, bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(encoding);
        let mut out = Vec::new();
        for piece in bytes.chunks(piece).map(|piece| Some(Bytes::copy_from_slice(piece))).chain([None]) {
            decoder.feed(piece);
            while let Some(piece) = decoder.next()? {
                assert!(piece.len() <= PIECE);
                out.extend_from_slice(&piece);
            }
        }
        Ok(out)
    }

    #[test]
    fn what_was_encoded_comes_out_whole_in_whatever_pieces_it_came() {
        let long: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for plain in [WORDS, b"", b"x", &long] {
            for piece in [1, 2, 3, 7, 1000, 1 << 20] {
                if piece < 7 && plain.len() > 1000 {
                    continue;
                }
                assert_eq!(decode(Encoding::Gzip, &gzip(plain), piece).unwrap(), plain, "gzip by {piece}");
                assert_eq!(decode(Encoding::Gzip, &gzip_with_a_whole_head(plain), piece).unwrap(), plain, "{piece}");
                assert_eq!(decode(Encoding::Zlib, &zlib(plain), piece).unwrap(), plain, "zlib by {piece}");
            }
        }
    }

    #[test]
    fn what_ends_early_or_late_or_is_something_else_is_an_error_and_not_a_shorter_answer() {
        for (encoding, whole) in [(Encoding::Gzip, gzip(WORDS)), (Encoding::Zlib, zlib(WORDS))] {
            for piece in [1, 1000] {
                for length in 0..whole.len() {
                    assert!(decode(encoding, &whole[..length], piece).is_err(), "{encoding:?} cut at {length}");
                }
                for more in [&b"x"[..], &whole] {
                    assert!(decode(encoding, &[&whole, more].concat(), piece).is_err(), "{encoding:?} and more");
                }
                assert!(decode(encoding, WORDS, piece).is_err(), "{encoding:?} of plain words");
            }
        }
        // The sum of what came out is looked at too.
        let mut wrong = gzip(WORDS);
        let last = wrong.len() - 5;
        wrong[last] ^= 1;
        assert!(decode(Encoding::Gzip, &wrong, 1000).is_err());
        // Raw deflate is not what the name says.
        assert!(decode(Encoding::Zlib, &zlib(WORDS)[2..], 1000).is_err());
    }

    #[test]
    fn a_bomb_is_decoded_to_its_bound_by_small_pieces_and_no_further() {
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        let most = 1 << 20;
        bomb.write_all(&vec![0; (most + 1) as usize]).unwrap();
        let mut decoder = Decoder::bounded(Encoding::Gzip, most);
        decoder.feed(Some(bomb.finish().unwrap().into()));
        let mut decoded = 0;
        let error = loop {
            match decoder.next() {
                Ok(Some(piece)) => decoded += piece.len() as u64,
                Ok(None) => panic!("it ended at {decoded}"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("longer"), "{error}");
        assert_eq!(decoded, most);
    }

    #[test]
    fn an_encoding_is_known_by_name_and_anything_else_is_unreadable() {
        let of = |name: &'static str, values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(name, HeaderValue::from_bytes(value).unwrap());
            }
            Encoding::of(&headers)
        };
        let content = |values: &[&[u8]]| of("content-encoding", values);
        assert_eq!(content(&[]), Ok(None));
        for plain in [b"identity".as_slice(), b"Identity", b" identity , identity"] {
            assert_eq!(content(&[plain]), Ok(None));
            assert_eq!(content(&[b"identity", plain]), Ok(None));
        }
        for gzip in [b"gzip".as_slice(), b"GZip", b"x-gzip", b" gzip ", b"identity, gzip"] {
            assert_eq!(content(&[gzip]), Ok(Some(Encoding::Gzip)));
        }
        assert_eq!(content(&[b"deflate"]), Ok(Some(Encoding::Zlib)));
        for other in [b"br".as_slice(), b"zstd", b"gzip, gzip", b"gzip,deflate", b"gzip;q=1", b"", b"gzip,", b"\xff"] {
            assert_eq!(content(&[other]), Err(Unreadable), "{other:?}");
        }
        assert_eq!(content(&[b"gzip", b"br"]), Err(Unreadable));
        assert_eq!(of("transfer-encoding", &[b"chunked"]), Ok(None));
        for hidden in [b"gzip, chunked".as_slice(), b"gzip", b"identity", b"chunked, gzip"] {
            assert_eq!(of("transfer-encoding", &[hidden]), Err(Unreadable), "{hidden:?}");
        }
    }
}
