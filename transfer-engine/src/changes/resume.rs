//! Resumes a push that was killed or gave up: what is in its packs need not be sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::options::Sending;
use crate::error::Error;
use crate::format::{BlockRef, Footer, FooterBlock, PackId, StoreKey, StoreMeta, parse_footer};
use crate::state::{NotedPack, PackJournal};
use crate::store::Store;
use crate::tree::PutPack;

/// A pack in the journal may be trusted up to this part of the grace period. A writer may use packs up to
/// half a grace period old; the remaining part of that half is for this push.
const TRUSTED: u32 = 4;
/// A round of a long push ends when its oldest pack is this many eighths of the grace period old.
const ROUND_EIGHTHS: u32 = 3;

/// A pack in the journal to which a snapshot may refer.
struct Trusted {
    noted: NotedPack,
    footer: Footer,
    /// When it landed and how old it is; `None` if the head has it.
    landed: Option<(i64, Duration)>,
}

/// Takes over the packs in the journal that the store still has, and starts a new journal.
pub(crate) async fn resume(sending: &mut Sending<'_, '_>) -> Result<(), Error> {
    let store = sending.head.store;
    let meta = store.meta().await?;
    if sending.in_rounds {
        let grace = Duration::from_secs(meta.grace_seconds);
        sending.sink.set_round(Some(grace / 8 * ROUND_EIGHTHS));
    }
    let noted = PackJournal::read(sending.journal, meta.store_id, store.env());
    let mut noted = noted.map_err(|e| Error::local("read", sending.journal, e))?;
    // Nothing is used of packs that count as absent: late ones, and damaged ones that are to be healed.
    noted.retain(|pack| !sending.absent.contains(&pack.id));
    let trusted = if noted.is_empty() { Vec::new() } else { trust(sending, &meta, noted).await? };
    for pack in &trusted {
        tracing::debug!(id = %pack.noted.id, "a pack that an earlier push has sent is used");
        for block in &pack.footer.blocks {
            if let FooterBlock::Data { offset, stored_len, raw_len, codec, chunks } = block {
                let (offset, stored_len, raw_len, codec) = (*offset, *stored_len, *raw_len, *codec);
                let block = BlockRef { pack: pack.noted.id, offset, stored_len, raw_len, codec };
                sending.chunks.place(block, chunks);
            }
        }
        if let Some((landed, age)) = pack.landed {
            let grace = i64::try_from(meta.grace_seconds).unwrap_or(i64::MAX);
            let (size, footer_len) = (pack.noted.size, pack.noted.footer_len);
            let put = PutPack { size, footer_len, landed, land_by: landed.saturating_add(grace) };
            sending.sink.take_over(pack.noted.id, put, age);
        }
    }
    let kept: Vec<NotedPack> = trusted.iter().map(|pack| pack.noted).collect();
    match PackJournal::begin(sending.journal, meta.store_id, &kept) {
        Ok(journal) => sending.sink.keep_journal(journal),
        // Without a journal, a push that is killed has to start again, which is only slower.
        Err(error) => tracing::debug!(%error, "no packs are noted"),
    }
    Ok(())
}

/// Returns the packs to which a snapshot may refer: those of the head, and those that are young by the
/// store's own clock. A pack that can't be checked is not trusted, and its content is sent again.
async fn trust(
    sending: &Sending<'_, '_>,
    meta: &StoreMeta,
    noted: Vec<NotedPack>,
) -> Result<Vec<Trusted>, Error> {
    let store = sending.head.store;
    let of_head: BTreeSet<PackId> = sending.head.snapshot.packs.iter().map(|p| p.id).collect();
    let others = noted.iter().any(|pack| !of_head.contains(&pack.id));
    let now = if others { store.time().await?.0 } else { 0 };
    let oldest = Duration::from_secs(meta.grace_seconds) / TRUSTED;
    let looked_at = noted.into_iter().map(|noted| {
        let age = (!of_head.contains(&noted.id)).then_some((now, oldest));
        look_at(store, noted, age).boxed()
    });
    let looked_at: Vec<BoxFuture<'_, Option<Trusted>>> = looked_at.collect();
    let trusted: Vec<Option<Trusted>> =
        futures::stream::iter(looked_at).buffered(sending.concurrency).collect().await;
    Ok(trusted.into_iter().flatten().collect())
}

/// Reads a pack's footer. If `age` is given (the store's time and a maximum age), only if the pack is
/// younger.
async fn look_at(store: &Store, noted: NotedPack, age: Option<(i64, Duration)>) -> Option<Trusted> {
    let mut landed = None;
    if let Some((now, oldest)) = age {
        let found = store.stat(&StoreKey::Pack(noted.id).path()).await.ok()?;
        let at = found.last_modified.timestamp();
        // The store's times are truncated to seconds, so the pack may be up to a second older.
        let age = u64::try_from(now.saturating_sub(at).saturating_add(1)).unwrap_or(0);
        let age = Duration::from_secs(age);
        if found.size != noted.size || age >= oldest {
            return None;
        }
        landed = Some((at, age));
    }
    let start = noted.size - u64::from(noted.footer_len);
    let tail = store.get_range(noted.id, start, noted.size).await.ok()?;
    let footer = parse_footer(&tail, noted.size).ok()?;
    Some(Trusted { noted, footer, landed })
}
