//! What packs a layer: gzip, zstd, or nothing. Whatever it is, it is known by the layer's first bytes, not by what the
//! image says of it.
//!
//! Nothing here bounds what comes out: whoever reads counts it. What is held at once is bounded: gzip's window, and
//! zstd's, which a frame may set up to 128 MiB.

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

/// Bytes that are read at once of what is packed.
const BUFFER: usize = 1 << 16;

type Packed = Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

/// A layer with whatever packs it taken off.
///
/// # Errors
/// The reader's own, of its first bytes.
pub(crate) fn unpacked(mut packed: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut first = Vec::new();
    packed.by_ref().take(4).read_to_end(&mut first)?;
    let whole = Cursor::new(first.clone()).chain(packed);
    Ok(match first[..] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, whole))),
        // A frame, or one that is to be skipped and stands before it.
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Box::new(Zstd::new(whole)),
        _ => Box::new(whole),
    })
}

/// Frames of zstd, one after the other.
struct Zstd {
    packed: BufReader<Packed>,
    decoder: FrameDecoder,
    /// A frame is begun, and not at its end.
    begun: bool,
}

fn broken(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is no whole zstd: {why}"))
}

impl Zstd {
    fn new(packed: Packed) -> Self {
        Self { packed: BufReader::with_capacity(BUFFER, packed), decoder: FrameDecoder::new(), begun: false }
    }

    /// Begins the next frame; false when there is none.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.packed.by_ref().take(length), &mut io::sink())? < length {
                        return Err(broken("it ends in what is to be skipped"));
                    }
                }
                Err(e) => return Err(broken(e)),
            }
        }
        Ok(false)
    }
}

impl Read for Zstd {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.begun && !self.begin()? {
                return Ok(0);
            }
            self.begun = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder.decode_blocks(&mut self.packed, BlockDecodingStrategy::UptoBlocks(1)).map_err(broken)?;
            }
            match self.decoder.read(into)? {
                0 => self.begun = false,
                read => return Ok(read),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// As Debian's zstd packs it.
    fn zstd(bytes: &[u8], options: &[&str]) -> Vec<u8> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let out = Command::new("zstd").args(options).arg("-qc").arg(file.path()).stdin(Stdio::null()).output();
        let out = out.expect("zstd starts (apt-get install zstd, or cargo xtask test)");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    fn back(packed: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        unpacked(Box::new(Cursor::new(packed)))?.read_to_end(&mut whole).map(|_| whole)
    }

    #[test]
    fn a_layer_comes_back_as_it_was_packed_whatever_packed_it() {
        // Neither all alike nor without any order.
        let text: Vec<u8> = (0..600_000u32).flat_map(|n| (n.wrapping_mul(n) % 251 * (n >> 9)).to_le_bytes()).collect();
        for options in [&["-1"][..], &["-19", "--check"], &["--no-check"], &["--ultra", "-22", "--long=27"]] {
            assert_eq!(back(zstd(&text, options)).unwrap(), text, "{options:?}");
        }
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&text).unwrap();
        assert_eq!(back(gz.finish().unwrap()).unwrap(), text);
        for plain in [&text[..], b"", b"abc"] {
            assert_eq!(back(plain.to_vec()).unwrap(), plain);
        }
    }

    #[test]
    fn frames_that_follow_one_another_are_one_layer_and_what_is_to_be_skipped_is_none_of_it() {
        let skipped = |length: u8| [&[0x5a, 0x2a, 0x4d, 0x18, length, 0, 0, 0][..], &vec![7; length.into()]].concat();
        let frames = [skipped(3), zstd(b"first ", &[]), skipped(0), zstd(b"", &[]), zstd(b"second", &[]), skipped(200)];
        assert_eq!(back(frames.concat()).unwrap(), b"first second");
    }

    #[test]
    fn what_is_cut_or_is_no_zstd_after_its_first_bytes_is_an_error_and_no_shorter_layer() {
        let whole = zstd(&vec![b'x'; 100_000], &["--no-check"]);
        for cut in [4, 6, whole.len() / 2, whole.len() - 1] {
            assert!(back(whole[..cut].to_vec()).unwrap_err().to_string().contains("no whole zstd"), "{cut}");
        }
        let garbage = [&whole[..], b"garbage"].concat();
        assert!(back(garbage).unwrap_err().to_string().contains("no whole zstd"));
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 9, 0, 0, 0][..], b"short"].concat();
        assert!(back(skipped).unwrap_err().to_string().contains("to be skipped"));
    }

    #[test]
    fn a_frame_whose_window_is_beyond_128_mib_is_refused_before_any_of_it_is_held() {
        // A window of 1 GiB: exponent 20, mantissa 0.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0x00, 0x00];
        assert!(back(frame.to_vec()).unwrap_err().to_string().contains("no whole zstd"));
    }
}
