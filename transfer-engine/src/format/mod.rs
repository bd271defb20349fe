//! The format of a store: encoding what is written, and checking what is read.
//!
//! ```text
//! file --cut--> chunks --compress--> blocks --append--> packs
//!                  ^                                      ^
//!                  '---- tree entries, in segments -------'
//!                             ^
//!                             '---- snapshot: the commit
//! ```
//!
//! Everything here maps bytes to values and back. Every length is bounded before memory is allocated for it,
//! every digest is checked, and no input makes a reader panic. `docs/format.md` describes each byte.

mod block;
mod chunk;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod heads;
mod ids;
mod keys;
mod meta;
mod name;
mod pack;
mod segment;
mod snapshot;
mod tag;
pub(crate) mod wire;

pub use block::{
    ARCHIVE_MODE_LEVEL, ARCHIVE_MODE_TARGET, BlockBuilder, BlockOpener, Codec, FILE_MODE_TARGET,
    MAX_BLOCK_CHUNKS, MAX_BLOCK_RAW, SealedBlock, open_block,
};
pub(crate) use chunk::ZEROS;
pub use chunk::{CHUNK_AVG, CHUNK_MAX, CHUNK_MIN, ChunkId, cut, file_digest};
pub use error::{FormatError, Part};
pub use heads::{HeadIndex, HeadRow, HeadState, LiveHead, MAX_INDEX_LEN};
pub use ids::{IdError, LineageId, PackId, StoreId};
pub(crate) use keys::end_of_context;
pub use keys::{StoreKey, context_prefix, contexts_prefix, packs_prefix, parse_context_prefix};
pub use meta::StoreMeta;
pub use name::{ContextName, NameError};
#[cfg(any(test, fuzzing))]
pub(crate) use pack::signed;
pub use pack::{
    BlockRef, Footer, FooterBlock, MAX_FOOTER_LEN, MAX_PACK_LEN, PACK_TARGET, PackBuilder, SealedPack,
    TRAILER_LEN, footer_len, parse_footer,
};
pub use segment::{
    ChunkRef, EncodedSegment, MAX_PATH_LEN, MAX_SEGMENT_ENTRIES, MAX_SEGMENT_LEN, SegmentCutter, TreeEntry,
    check_order, decode_segment, encode_segment,
};
pub(crate) use segment::{claimed_memory, memory_of};
pub use snapshot::{
    Ancestor, Changes, EncodedSnapshot, Kind, MAX_ANCESTORS, MAX_INLINE, MAX_LET_GO, MAX_SESSION_LEN,
    MAX_SNAPSHOT_LEN, PackUse, Place, RecycleRules, SegmentRef, Snapshot, Totals,
};
pub(crate) use snapshot::{LetGo, StandsFor, joined};
pub use tag::{MAX_TAG_LEN, Tag, TagName, TagNameError};

use policy_core::Digest;
use sha2::{Digest as _, Sha256};

/// Returns the SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}
