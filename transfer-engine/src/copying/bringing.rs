//! Bringing packs from the source to the destination.

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::Semaphore;

use super::verify::read_whole;
use super::{Run, is_damage};
use crate::error::Error;
use crate::format::{PackId, PackUse, SealedPack};
use crate::packing::put_whole;
use crate::store::Store;
use crate::tree::PutPack;

/// What became of a pack.
enum Brought {
    Put(PackId, PutPack),
    Damaged(Error),
}

impl Run<'_> {
    /// Brings packs that the destination may lack. What is damaged is noted.
    pub(super) async fn bring(&mut self, wanted: Vec<PackUse>) -> Result<(), Error> {
        let concurrency = self.options.concurrency.get();
        let wanted = self.packs.recognize(wanted, concurrency).await?;
        let (src, dst) = (self.sides.src, self.sides.dst);
        self.progress.total_bytes += wanted.iter().map(|pack| pack.size).sum::<u64>();
        self.monitor.progress(&self.progress);
        if self.sides.dry_run {
            for pack in wanted {
                self.report.count(pack.size);
                self.packs.note_planned(pack.id);
            }
            return Ok(());
        }
        let Self { room, packs, anchor, options, progress, monitor, report, .. } = self;
        let room = &*room;
        let mut copies = stream::iter(wanted)
            .map(|pack| async move { (pack, bring_one(src, dst, room, &pack).await) })
            .buffer_unordered(concurrency);
        while let Some((pack, brought)) = copies.next().await {
            match brought? {
                Brought::Put(id, put) => {
                    packs.note_put(pack.id, id, &put);
                    report.count(put.size);
                }
                Brought::Damaged(damage) => packs.note_damage(pack.id, damage),
            }
            progress.bytes_done += pack.size;
            monitor.progress(progress);
            if anchor.is_due(packs, options.note_every) {
                anchor.save(dst, packs).await?;
            }
        }
        Ok(())
    }

    /// Lists what was put and is in no copy yet, if it is time.
    pub(super) async fn save_if_due(&mut self) -> Result<(), Error> {
        if self.anchor.is_due(&self.packs, self.options.note_every) {
            self.anchor.save(self.sides.dst, &mut self.packs).await?;
        }
        Ok(())
    }
}

async fn bring_one(
    src: &Store,
    dst: &Store,
    (room, all): &(Semaphore, u32),
    pack: &PackUse,
) -> Result<Brought, Error> {
    let weight = u32::try_from(pack.size).unwrap_or(u32::MAX).clamp(1, *all);
    // It is never closed.
    let _room = room.acquire_many(weight).await;
    let bytes: Bytes = match read_whole(src, pack).await {
        Ok(bytes) => bytes,
        Err(error) if is_damage(&error) => {
            // Not so if the whole store is gone.
            src.confirm().await?;
            return Ok(Brought::Damaged(error));
        }
        Err(error) => return Err(error),
    };
    let id = PackId(dst.random()?);
    let (size, footer_len) = (pack.size, pack.footer_len);
    let put = put_whole(dst, SealedPack { id, parts: vec![bytes], size, footer_len }).await?;
    Ok(Brought::Put(id, put))
}
