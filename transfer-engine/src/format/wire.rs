//! How numbers and bytes are stored: LEB128 varints, zigzag, fixed arrays.

use super::error::{FormatError, Part, at_most};

/// Appends values to a buffer.
#[derive(Debug, Default, Clone)]
pub(crate) struct Writer {
    buf: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { buf: Vec::with_capacity(bytes) }
    }

    pub(crate) fn u8(&mut self, v: u8) {
        self.buf.push(v);
    }

    pub(crate) fn u16(&mut self, v: u16) {
        self.buf.extend_from_slice(&v.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, v: u32) {
        self.buf.extend_from_slice(&v.to_le_bytes());
    }

    #[inline]
    pub(crate) fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.buf.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.buf.push(v as u8);
    }

    #[inline]
    pub(crate) fn zigzag(&mut self, v: i64) {
        self.varint(zigzag(v));
    }

    pub(crate) fn bytes(&mut self, v: &[u8]) {
        self.buf.extend_from_slice(v);
    }

    /// Writes a varint length, then the bytes.
    pub(crate) fn blob(&mut self, v: &[u8]) {
        self.varint(v.len() as u64);
        self.bytes(v);
    }

    pub(crate) fn len(&self) -> usize {
        self.buf.len()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.buf
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.buf
    }
}

/// Maps small numbers of either sign to small unsigned ones: 0, -1, 1, -2, ...
#[inline]
pub(crate) fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub(crate) fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

/// Reads values from the front of a slice. It never reads beyond the end, and allocates no memory.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    part: Part,
    data: &'a [u8],
    pos: usize,
    /// The offset of `data` in its part, for error messages.
    base: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(part: Part, data: &'a [u8]) -> Self {
        Self::at(part, data, 0)
    }

    pub(crate) fn at(part: Part, data: &'a [u8], base: u64) -> Self {
        Self { part, data, pos: 0, base }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.base + self.pos as u64
    }

    pub(crate) fn remaining(&self) -> usize {
        self.data.len() - self.pos
    }

    #[cold]
    fn truncated(&self) -> FormatError {
        FormatError::Truncated { part: self.part, offset: self.base + self.data.len() as u64 }
    }

    /// Returns an error about the value that was just read.
    #[cold]
    pub(crate) fn invalid(&self, what: impl Into<String>) -> FormatError {
        FormatError::Invalid { part: self.part, offset: self.offset(), what: what.into() }
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let rest = &self.data[self.pos..];
        if len > rest.len() {
            return Err(self.truncated());
        }
        self.pos += len;
        Ok(&rest[..len])
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let Some(array) = self.data[self.pos..].first_chunk::<N>() else { return Err(self.truncated()) };
        self.pos += N;
        Ok(*array)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        self.array::<1>().map(|[b]| b)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.u8()?;
            // The tenth byte has only the last of the 64 bits.
            if shift == 63 && byte > 1 {
                return Err(self.invalid("a number above 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // Each value has exactly one encoding; otherwise two byte strings would mean the same object.
                return if byte == 0 { Err(self.invalid("a number that is padded")) } else { Ok(value) };
            }
            shift += 7;
        }
    }

    /// Reads a varint of at most `limit`.
    #[inline]
    pub(crate) fn varint_max(&mut self, what: &'static str, limit: u64) -> Result<u64, FormatError> {
        let value = self.varint()?;
        at_most(self.part, what, value, limit)?;
        Ok(value)
    }

    /// Reads a varint of at most `limit` as a `u32`.
    #[inline]
    pub(crate) fn varint32(&mut self, what: &'static str, limit: u32) -> Result<u32, FormatError> {
        self.varint_max(what, u64::from(limit)).map(|v| v as u32)
    }

    /// Reads the number of items that follow. Each takes at least `each` bytes of this reader, so memory may
    /// be allocated for a number that passes this check.
    pub(crate) fn count(&mut self, what: &'static str, each: usize) -> Result<usize, FormatError> {
        let count = self.varint()?;
        at_most(self.part, what, count, (self.remaining() / each.max(1)) as u64)?;
        Ok(count as usize)
    }

    #[inline]
    pub(crate) fn zigzag(&mut self) -> Result<i64, FormatError> {
        self.varint().map(unzigzag)
    }

    /// Reads a varint length of at most `limit`, then that many bytes.
    pub(crate) fn blob(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], FormatError> {
        let len = self.varint_max(what, limit as u64)?;
        self.take(len as usize)
    }

    /// Fails if bytes are left.
    pub(crate) fn finish(self) -> Result<(), FormatError> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(self.invalid(format!("{} bytes too many", self.remaining())))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<u64, FormatError> {
        let mut r = Reader::new(Part::Segment, bytes);
        let value = r.varint()?;
        r.finish()?;
        Ok(value)
    }

    #[test]
    fn one_form_for_each_number() {
        assert_eq!(read(&[0]), Ok(0));
        assert_eq!(read(&[0x80, 1]), Ok(128));
        let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(read(&max), Ok(u64::MAX));
        for bad in [&[][..], &[0x80], &[0x80, 0], &[0xff, 0x80, 0], &[0xff; 11], &[0, 0]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let mut over = max;
        over[9] = 2;
        assert!(read(&over).is_err());
    }

    #[test]
    fn counts_fit_what_is_there() {
        assert_eq!(Reader::new(Part::Segment, &[2, 0, 0, 0, 0]).count("", 2), Ok(2));
        assert!(Reader::new(Part::Segment, &[3, 0, 0, 0, 0]).count("", 2).is_err());
    }

    proptest! {
        #[test]
        fn numbers_round_trip(v in any::<u64>(), shift in 0..64, s in any::<i64>(), blob in any::<Vec<u8>>()) {
            let v = v >> shift;
            let mut w = Writer::new();
            w.varint(v);
            w.zigzag(s >> shift);
            w.blob(&blob);
            w.u16(v as u16);
            w.u32(v as u32);
            let bytes = w.into_vec();
            let mut r = Reader::new(Part::Segment, &bytes);
            prop_assert_eq!(r.varint().unwrap(), v);
            prop_assert_eq!(r.zigzag().unwrap(), s >> shift);
            prop_assert_eq!(r.blob("", blob.len()).unwrap(), &blob[..]);
            prop_assert_eq!(r.u16().unwrap(), v as u16);
            prop_assert_eq!(r.u32().unwrap(), v as u32);
            r.finish().unwrap();
        }

        #[test]
        fn what_is_read_is_what_is_written(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(v) = read(&bytes) {
                let mut w = Writer::new();
                w.varint(v);
                prop_assert_eq!(w.into_vec(), bytes);
            }
        }
    }
}
