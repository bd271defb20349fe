//! Counts what a 7z's directory claims to contain, without allocating memory for it.
//!
//! The format is described in `7zFormat.txt` of the LZMA SDK, which also has the names below.

use sevenz_rust2::EncoderMethod;

use super::super::ExtractError;

const END: u64 = 0x00;
const HEADER: u64 = 0x01;
const ARCHIVE_PROPERTIES: u64 = 0x02;
const MAIN_STREAMS: u64 = 0x04;
const FILES: u64 = 0x05;
const PACK_INFO: u64 = 0x06;
const UNPACK_INFO: u64 = 0x07;
const SUB_STREAMS: u64 = 0x08;
const SIZE: u64 = 0x09;
const CRC: u64 = 0x0a;
const FOLDER: u64 = 0x0b;
const CODERS_UNPACK_SIZE: u64 = 0x0c;
const NUM_UNPACK_STREAM: u64 = 0x0d;
const ENCODED_HEADER: u8 = 0x17;

/// The most coders of one folder: BCJ2 with its three streams takes four.
const CODERS: u64 = 8;

fn bad() -> ExtractError {
    ExtractError::damaged("its directory is not of the form that it should have")
}

/// One step of decoding.
pub(super) struct Coder {
    pub(super) method: Vec<u8>,
    pub(super) properties: Vec<u8>,
}

impl Coder {
    pub(super) fn is(&self, method: &[u8]) -> bool {
        self.method == method
    }

    /// Returns the memory for the coder's window, in bytes.
    pub(super) fn window(&self) -> u64 {
        match &*self.method {
            EncoderMethod::ID_LZMA => match self.properties.get(1..5) {
                Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]).into(),
                _ => 0,
            },
            EncoderMethod::ID_LZMA2 => match self.properties.first() {
                Some(&bits) if bits < 40 => (2 | u64::from(bits & 1)) << (bits / 2 + 11),
                Some(_) => u32::MAX.into(),
                None => 0,
            },
            _ => 0,
        }
    }
}

/// A directory that is compressed itself.
pub(super) struct Packed {
    /// Its offset after the signature, and its length there.
    pub(super) at: u64,
    pub(super) len: u64,
    /// Its unpacked length.
    pub(super) size: u64,
    pub(super) coders: Vec<Coder>,
}

/// Returns the compressed directory that `bytes` describe; `None` if they are the directory itself.
pub(super) fn packed_directory(bytes: &[u8]) -> Result<Option<Packed>, ExtractError> {
    let Some((&ENCODED_HEADER, rest)) = bytes.split_first() else { return Ok(None) };
    let mut reader = Reader { bytes: rest };
    let mut streams = reader.streams()?;
    match (&*streams.packs, &*streams.sizes, streams.folders.pop(), streams.folders.len()) {
        ([len, ..], [.., size], Some(coders), 0) => {
            Ok(Some(Packed { at: streams.pack_at, len: *len, size: *size, coders }))
        }
        _ => Err(bad()),
    }
}

/// The counts of a directory.
pub(super) struct Census {
    pub(super) files: u64,
    /// The coders of each folder (a run of members).
    pub(super) folders: Vec<Vec<Coder>>,
}

impl Census {
    /// Counts the content of a directory. Each count is limited by the bytes that must represent it.
    pub(super) fn take(directory: &[u8]) -> Result<Self, ExtractError> {
        let mut reader = Reader { bytes: directory };
        if reader.number()? != HEADER {
            return Err(bad());
        }
        let mut next = reader.number()?;
        if next == ARCHIVE_PROPERTIES {
            while reader.number()? != END {
                let len = reader.count(1)?;
                reader.skip(len)?;
            }
            next = reader.number()?;
        }
        let mut streams = Streams::default();
        if next == MAIN_STREAMS {
            streams = reader.streams()?;
            next = reader.number()?;
        }
        let files = match next {
            FILES => reader.number()?,
            END => 0,
            _ => return Err(ExtractError::unsupported("its directory has parts that are not known")),
        };
        // Each member takes at least one byte, for its name.
        if files > directory.len() as u64 {
            return Err(bad());
        }
        Ok(Self { files, folders: streams.folders })
    }
}

#[derive(Default)]
struct Streams {
    pack_at: u64,
    packs: Vec<u64>,
    folders: Vec<Vec<Coder>>,
    sizes: Vec<u64>,
}

struct Reader<'b> {
    bytes: &'b [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, ExtractError> {
        let (&first, rest) = self.bytes.split_first().ok_or_else(bad)?;
        self.bytes = rest;
        Ok(first)
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, ExtractError> {
        let taken = self.bytes.get(..len).ok_or_else(bad)?.to_vec();
        self.bytes = &self.bytes[len..];
        Ok(taken)
    }

    fn skip(&mut self, len: usize) -> Result<(), ExtractError> {
        self.bytes = self.bytes.get(len..).ok_or_else(bad)?;
        Ok(())
    }

    /// Reads a number of one to nine bytes. The number of leading ones in the first byte is the number of
    /// bytes that follow.
    fn number(&mut self) -> Result<u64, ExtractError> {
        let first = self.byte()?;
        let mut value = 0;
        for i in 0..8 {
            if first & (0x80 >> i) == 0 {
                return Ok(value | u64::from(first & ((0x80 >> i) - 1)) << (8 * i));
            }
            value |= u64::from(self.byte()?) << (8 * i);
        }
        Ok(value)
    }

    /// Reads a count of items that take at least `each` bytes of the rest.
    fn count(&mut self, each: usize) -> Result<usize, ExtractError> {
        let count = usize::try_from(self.number()?).map_err(|_| bad())?;
        if count > self.bytes.len() / each.max(1) {
            return Err(bad());
        }
        Ok(count)
    }

    fn expect(&mut self, id: u64) -> Result<(), ExtractError> {
        if self.number()? == id { Ok(()) } else { Err(bad()) }
    }

    /// Skips the checksums of some of `count` items, and returns which items have one.
    fn digests(&mut self, count: usize) -> Result<Vec<bool>, ExtractError> {
        let mut defined = vec![true; count];
        if self.byte()? == 0 {
            let bits = self.take(count.div_ceil(8))?;
            for (i, defined) in defined.iter_mut().enumerate() {
                *defined = bits[i / 8] & (0x80 >> (i % 8)) != 0;
            }
        }
        self.skip(4 * defined.iter().filter(|defined| **defined).count())?;
        Ok(defined)
    }

    fn streams(&mut self) -> Result<Streams, ExtractError> {
        let mut streams = Streams::default();
        let mut next = self.number()?;
        if next == PACK_INFO {
            streams.pack_at = self.number()?;
            let count = self.count(1)?;
            loop {
                match self.number()? {
                    END => break,
                    SIZE => streams.packs = (0..count).map(|_| self.number()).collect::<Result<_, _>>()?,
                    CRC => _ = self.digests(count)?,
                    _ => return Err(bad()),
                }
            }
            next = self.number()?;
        }
        let mut has_crc = Vec::new();
        if next == UNPACK_INFO {
            self.expect(FOLDER)?;
            let count = self.count(3)?;
            if self.byte()? != 0 {
                return Err(ExtractError::unsupported("its directory is spread over the archive"));
            }
            streams.folders = (0..count).map(|_| self.folder()).collect::<Result<_, _>>()?;
            self.expect(CODERS_UNPACK_SIZE)?;
            let coders: usize = streams.folders.iter().map(Vec::len).sum();
            streams.sizes = (0..coders).map(|_| self.number()).collect::<Result<_, _>>()?;
            has_crc = vec![false; count];
            loop {
                match self.number()? {
                    END => break,
                    CRC => has_crc = self.digests(count)?,
                    _ => return Err(bad()),
                }
            }
            next = self.number()?;
        }
        if next == SUB_STREAMS {
            self.sub_streams(&has_crc)?;
            next = self.number()?;
        }
        if next == END { Ok(streams) } else { Err(bad()) }
    }

    /// Skips the description of how the folders are divided into members.
    fn sub_streams(&mut self, has_crc: &[bool]) -> Result<(), ExtractError> {
        let mut counts = vec![1_u64; has_crc.len()];
        let mut next = self.number()?;
        if next == NUM_UNPACK_STREAM {
            for count in &mut counts {
                *count = self.number()?;
            }
            next = self.number()?;
        }
        // All but the last member of a folder have their size here, in at least one byte.
        let sizes = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(count.saturating_sub(1)));
        if sizes > self.bytes.len() as u64 {
            return Err(bad());
        }
        if next == SIZE {
            for _ in 0..sizes {
                self.number()?;
            }
            next = self.number()?;
        }
        let unknown = counts.iter().zip(has_crc).filter(|(count, crc)| **count != 1 || !**crc);
        let unknown = unknown.fold(0_u64, |sum, (count, _)| sum.saturating_add(*count));
        if next == CRC {
            if unknown / 8 > self.bytes.len() as u64 {
                return Err(bad());
            }
            self.digests(usize::try_from(unknown).map_err(|_| bad())?)?;
            next = self.number()?;
        }
        if next == END { Ok(()) } else { Err(bad()) }
    }

    fn folder(&mut self) -> Result<Vec<Coder>, ExtractError> {
        let count = self.number()?;
        if count == 0 || count > CODERS {
            return Err(ExtractError::unsupported("it is compressed in more steps than are allowed"));
        }
        let mut coders = Vec::new();
        let (mut inputs, mut outputs) = (0_u64, 0_u64);
        for _ in 0..count {
            let flags = self.byte()?;
            let method = self.take(usize::from(flags & 0x0f))?;
            let (mut more_in, mut more_out) = (1, 1);
            if flags & 0x10 != 0 {
                (more_in, more_out) = (self.number()?, self.number()?);
            }
            if more_in > CODERS || more_out != 1 || flags & 0x80 != 0 {
                return Err(ExtractError::unsupported("it is compressed in a way that is not known"));
            }
            (inputs, outputs) = (inputs + more_in, outputs + more_out);
            let mut properties = Vec::new();
            if flags & 0x20 != 0 {
                let len = self.count(1)?;
                properties = self.take(len)?;
            }
            coders.push(Coder { method, properties });
        }
        let bound = outputs - 1;
        for _ in 0..bound {
            self.number()?;
            self.number()?;
        }
        let packed = inputs.checked_sub(bound).ok_or_else(bad)?;
        if packed > 1 {
            for _ in 0..packed {
                self.number()?;
            }
        }
        Ok(coders)
    }
}
