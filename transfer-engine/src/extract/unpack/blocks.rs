//! A tar as a sequence of blocks.

use std::io::Read;

use super::ExtractError;
use super::fill;
use super::trouble::Trouble;

pub(super) const BLOCK: u64 = 512;
/// The most bytes that the headers of one member may take: names, links, attributes.
pub(super) const HEADERS: u64 = 1 << 20;
/// A tar as a sequence of blocks of 512 bytes.
pub(super) struct Blocks<'s> {
    pub(super) stream: &'s mut dyn Read,
    pub(super) trouble: &'s Trouble,
}

impl Blocks<'_> {
    /// Reads a block; false at the end of the stream.
    pub(super) fn block(&mut self, block: &mut [u8; 512]) -> Result<bool, ExtractError> {
        match fill(self.stream, block).map_err(|e| self.trouble.explain(&e, "it"))? {
            0 => Ok(false),
            512 => Ok(true),
            _ => Err(ExtractError::damaged("it ends within a block")),
        }
    }

    /// Reads the content of an extended header, which must be small.
    pub(super) fn small(&mut self, size: u64) -> Result<Vec<u8>, ExtractError> {
        if size > HEADERS {
            return Err(ExtractError::unsupported(format!(
                "a header of {size} bytes is larger than {HEADERS}"
            )));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        let n = fill(self.stream, &mut bytes).map_err(|e| self.trouble.explain(&e, "a header"))?;
        if n < bytes.len() {
            return Err(ExtractError::damaged("it ends within a header"));
        }
        self.padding(size)?;
        Ok(bytes)
    }

    /// Skips the padding after some content.
    pub(super) fn padding(&mut self, size: u64) -> Result<(), ExtractError> {
        let mut rest = [0; 512];
        let rest = &mut rest[..usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or_default()];
        let n = fill(self.stream, rest).map_err(|e| self.trouble.explain(&e, "it"))?;
        if n < rest.len() {
            return Err(ExtractError::damaged("it ends within a block"));
        }
        Ok(())
    }

    /// Reads to the end, and returns how many bytes there are from the first non-zero byte on.
    pub(super) fn not_zero(&mut self) -> Result<u64, ExtractError> {
        let mut buf = vec![0; 64 << 10];
        let mut behind = 0;
        loop {
            let n = fill(self.stream, &mut buf).map_err(|e| self.trouble.explain(&e, "it"))?;
            if n == 0 {
                return Ok(behind);
            }
            behind += match (behind, buf[..n].iter().position(|&b| b != 0)) {
                (0, None) => 0,
                (0, Some(first)) => n - first,
                _ => n,
            } as u64;
        }
    }
}
