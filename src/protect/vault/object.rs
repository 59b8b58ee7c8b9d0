//! The container of one content.
//!
//! Pure but for reading and writing the file it is handed. Layout, big endian:
//!
//! ```text
//!  0  8  magic "HEALERDV"          16  8  bytes of the plain content
//!  8  1  version (1)               24  8  bytes of the whole file
//!  9  1  sealing (0: none)         32  8  first bytes of BLAKE3 over what precedes
//! 10  1  codec (0 plain, 1 zstd)   40     payload
//! 11  5  zero
//! ```
//!
//! The name of the file is the digest of the plain content, so the container needs none. The sealing byte is the place
//! of an encryption algorithm; a reader refuses what it does not know.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::sync::Mutex;
use std::sync::PoisonError;

use healer_agent::tree::Digest;

pub(super) const HEADER_BYTES: usize = 40;
const MAGIC: &[u8; 8] = b"HEALERDV";
const VERSION: u8 = 1;
const UNSEALED: u8 = 0;
/// Level 3 of zstd: the knee between speed and size for text.
const LEVEL: i32 = 3;
/// Contents up to this size are packed and unpacked in one call, in memory.
pub(super) const WHOLE_BYTES_MAX: usize = 1 << 20;

/// How the payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Plain,
    Zstd,
}

/// What a container says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) codec: Codec,
    pub(super) plain_bytes: u64,
    pub(super) file_bytes: u64,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[9] = UNSEALED;
        bytes[10] = match self.codec {
            Codec::Plain => 0,
            Codec::Zstd => 1,
        };
        bytes[16..24].copy_from_slice(&self.plain_bytes.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.file_bytes.to_be_bytes());
        let check = *blake3::hash(&bytes[..32]).as_bytes();
        bytes[32..].copy_from_slice(&check[..8]);
        bytes
    }

    /// The reason says what is wrong, for the report about a damaged vault.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let check = *blake3::hash(&bytes[..32]).as_bytes();
        if &bytes[..8] != MAGIC {
            return Err("it does not begin as an object does");
        }
        if bytes[32..] != check[..8] {
            return Err("its header is damaged");
        }
        if bytes[8] != VERSION {
            return Err("its version is not known here");
        }
        if bytes[9] != UNSEALED {
            return Err("it is sealed in a way that is not known here");
        }
        let codec = match bytes[10] {
            0 => Codec::Plain,
            1 => Codec::Zstd,
            _ => return Err("it is packed in a way that is not known here"),
        };
        let word = |at: usize| {
            bytes[at..]
                .first_chunk::<8>()
                .map_or(0, |word| u64::from_be_bytes(*word))
        };
        Ok(Self {
            codec,
            plain_bytes: word(16),
            file_bytes: word(24),
        })
    }

    /// Reads the header of a file and compares the length that it tells with the file's own.
    ///
    /// # Errors
    /// The outer error is the system's, the inner one a reason why this is no whole object.
    pub(super) fn of(file: &mut File) -> io::Result<Result<Self, &'static str>> {
        let mut bytes = [0; HEADER_BYTES];
        match file.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Err("it is cut off within its header"));
            }
            Err(error) => return Err(error),
        }
        let length = file.metadata()?.len();
        Ok(Self::decode(&bytes).and_then(|header| {
            if header.file_bytes == length {
                Ok(header)
            } else {
                Err("it is not as long as it says")
            }
        }))
    }
}

/// Packers and unpackers kept for the next content: making one costs more than packing a small file.
#[derive(Default)]
pub(super) struct Packers {
    packers: Mutex<Vec<zstd::bulk::Compressor<'static>>>,
    unpackers: Mutex<Vec<zstd::bulk::Decompressor<'static>>>,
}

impl std::fmt::Debug for Packers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packers").finish_non_exhaustive()
    }
}

/// More are not kept: each holds a few hundred KiB.
const KEPT_MAX: usize = 4;

impl Packers {
    /// The whole file for a content in memory; plain where packing gains nothing.
    pub(super) fn pack(&self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let kept = lock(&self.packers).pop();
        let mut packer = match kept {
            Some(packer) => packer,
            None => zstd::bulk::Compressor::new(LEVEL)?,
        };
        let smaller = packer.compress(plain)?;
        let mut kept = lock(&self.packers);
        if kept.len() < KEPT_MAX {
            kept.push(packer);
        }
        drop(kept);
        let (codec, payload) = if smaller.len() < plain.len() {
            (Codec::Zstd, smaller.as_slice())
        } else {
            (Codec::Plain, plain)
        };
        let header = Header {
            codec,
            plain_bytes: plain.len() as u64,
            file_bytes: (HEADER_BYTES + payload.len()) as u64,
        };
        let mut file = Vec::with_capacity(HEADER_BYTES + payload.len());
        file.extend_from_slice(&header.encode());
        file.extend_from_slice(payload);
        Ok(file)
    }

    /// Reads a whole object and gives the digest of what it holds.
    ///
    /// # Errors
    /// As [`Header::of`].
    pub(super) fn digest(&self, file: &mut File) -> io::Result<Result<Digest, &'static str>> {
        let header = match Header::of(file)? {
            Ok(header) => header,
            Err(reason) => return Ok(Err(reason)),
        };
        let whole = usize::try_from(header.plain_bytes)
            .ok()
            .filter(|plain| *plain <= WHOLE_BYTES_MAX);
        match (header.codec, whole) {
            (Codec::Zstd, Some(plain)) if header.file_bytes <= 2 * WHOLE_BYTES_MAX as u64 => {
                let mut packed = Vec::new();
                file.read_to_end(&mut packed)?;
                let kept = lock(&self.unpackers).pop();
                let mut unpacker = match kept {
                    Some(unpacker) => unpacker,
                    None => zstd::bulk::Decompressor::new()?,
                };
                let bytes = unpacker.decompress(&packed, plain);
                let mut kept = lock(&self.unpackers);
                if kept.len() < KEPT_MAX {
                    kept.push(unpacker);
                }
                drop(kept);
                Ok(match bytes {
                    Ok(bytes) if bytes.len() == plain => Ok(Digest::of(&bytes)),
                    _ => Err("its payload cannot be unpacked"),
                })
            }
            _ => {
                let mut reader = Unpacking::new(file, header)?;
                let mut buffer = vec![0; 256 << 10];
                loop {
                    match reader.next(&mut buffer)? {
                        Ok(0) => return Ok(Ok(reader.digest())),
                        Ok(_) => {}
                        Err(reason) => return Ok(Err(reason)),
                    }
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a content of unknown length: the header is filled in at the end.
pub(super) struct Packing {
    hasher: blake3::Hasher,
    plain_bytes: u64,
    encoder: zstd::stream::write::Encoder<'static, File>,
}

impl Packing {
    /// Begins at the start of an empty file.
    pub(super) fn new(mut file: File) -> io::Result<Self> {
        file.write_all(&[0; HEADER_BYTES])?;
        Ok(Self {
            hasher: blake3::Hasher::new(),
            plain_bytes: 0,
            encoder: zstd::stream::write::Encoder::new(file, LEVEL)?,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.plain_bytes = self.plain_bytes.saturating_add(bytes.len() as u64);
        self.encoder.write_all(bytes)
    }

    /// Ends the container. Gives the digest of the content and the length of the file.
    pub(super) fn finish(self) -> io::Result<(Digest, u64)> {
        let mut file = self.encoder.finish()?;
        let file_bytes = file.stream_position()?;
        let header = Header {
            codec: Codec::Zstd,
            plain_bytes: self.plain_bytes,
            file_bytes,
        };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.encode())?;
        let digest = Digest::from_bytes(*self.hasher.finalize().as_bytes());
        Ok((digest, file_bytes))
    }
}

/// Reads a content piece by piece in bounded memory.
pub(super) struct Unpacking<R: Read> {
    payload: Payload<R>,
    hasher: blake3::Hasher,
    left: u64,
}

enum Payload<R: Read> {
    Plain(R),
    Zstd(Box<zstd::stream::read::Decoder<'static, io::BufReader<R>>>),
}

impl<R: Read> Unpacking<R> {
    /// Goes on where the header ended.
    pub(super) fn new(file: R, header: Header) -> io::Result<Self> {
        Ok(Self {
            payload: match header.codec {
                Codec::Plain => Payload::Plain(file),
                Codec::Zstd => Payload::Zstd(Box::new(zstd::stream::read::Decoder::new(file)?)),
            },
            hasher: blake3::Hasher::new(),
            left: header.plain_bytes,
        })
    }

    /// Fills the buffer as far as there is content; 0 at its end.
    ///
    /// # Errors
    /// The outer error is the system's, the inner one a reason why this is damaged.
    pub(super) fn next(&mut self, buffer: &mut [u8]) -> io::Result<Result<usize, &'static str>> {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = match &mut self.payload {
                Payload::Plain(file) => file.read(&mut buffer[filled..]),
                Payload::Zstd(decoder) => decoder.read(&mut buffer[filled..]),
            };
            match read {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The decoder's own complaints carry no error number; a fault of the disk does.
                Err(error) if error.raw_os_error().is_none() => {
                    return Ok(Err("its payload cannot be unpacked"));
                }
                Err(error) => return Err(error),
            }
        }
        match self.left.checked_sub(filled as u64) {
            Some(left) if filled > 0 || left == 0 => self.left = left,
            Some(_) => return Ok(Err("its payload is cut off")),
            None => return Ok(Err("its payload is longer than it says")),
        }
        self.hasher.update(&buffer[..filled]);
        Ok(Ok(filled))
    }

    /// Digest of what was read so far.
    pub(super) fn digest(&self) -> Digest {
        Digest::from_bytes(*self.hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_as_it_was_and_every_flipped_bit_is_seen() {
        let header = Header {
            codec: Codec::Zstd,
            plain_bytes: 77,
            file_bytes: u64::MAX,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut torn = bytes;
            torn[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&torn).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_sealed_object_of_a_later_release_is_refused_by_name() {
        let mut bytes = Header {
            codec: Codec::Plain,
            plain_bytes: 0,
            file_bytes: 40,
        }
        .encode();
        bytes[9] = 1;
        let check = *blake3::hash(&bytes[..32]).as_bytes();
        bytes[32..].copy_from_slice(&check[..8]);
        assert_eq!(
            Header::decode(&bytes),
            Err("it is sealed in a way that is not known here")
        );
    }

    #[test]
    fn what_cannot_be_packed_smaller_is_kept_plain() {
        let noise: Vec<u8> = (0..64_u32)
            .flat_map(|seed| *blake3::hash(&seed.to_be_bytes()).as_bytes())
            .collect();
        let packers = Packers::default();
        assert_eq!(
            packers.pack(&noise).unwrap().len(),
            HEADER_BYTES + noise.len()
        );
        assert!(packers.pack(&[b'a'; 4096]).unwrap().len() < 200);
        assert_eq!(packers.pack(b"").unwrap().len(), HEADER_BYTES);
    }
}
