//! From one layout to the next.

use std::collections::BTreeSet;

use im_core::ports::StoreResult;
use im_core::{Epoch, RoomId, Seq, UserId};

use crate::device::Device;
use crate::error::{damaged, reading};
use crate::{keys, parts, record};

/// Rows written in one batch.
const ROWS: usize = 1000;

/// Layout 2 counts the bytes of each room, and knows of everybody who may be found in it. All logs are read, once.
pub(crate) fn from_1(db: &sled::Db, device: &dyn Device) -> StoreResult<()> {
    for row in db.scan_prefix(keys::ROOMS) {
        let (key, old) = row.map_err(reading)?;
        // The others were done before the last try was cut short.
        if old.len() == record::ROOM_LEN_1 {
            room_from_1(db, device, &key, &old)?;
        }
    }
    Ok(())
}

fn room_from_1(db: &sled::Db, device: &dyn Device, key: &[u8], old: &[u8]) -> StoreResult<()> {
    let id = std::str::from_utf8(&key[1..]).ok().and_then(|id| RoomId::new(id).ok());
    let id = id.ok_or_else(|| damaged("room"))?;
    let room = record::read_room(&id, 0, &record::room_from_1(old, 0))?;
    let incarnation = room.epoch.incarnation;
    let (mut bytes, mut seen) = (0, BTreeSet::new());
    let prefix = keys::memberships(incarnation);
    for row in db.scan_prefix(&prefix).keys() {
        let user = row.map_err(reading)?;
        let user = std::str::from_utf8(&user[prefix.len()..]).ok();
        let user = user.and_then(|user| UserId::new(user).ok());
        seen.insert(user.ok_or_else(|| damaged("membership"))?);
    }
    let mut next = room.first;
    while next <= room.head {
        let event = read_event(db, &id, room.epoch, next)?;
        bytes += event.content.packed().len() as u64;
        seen.extend(event.member_changes().into_iter().map(|change| change.user().clone()));
        seen.insert(event.from);
        next = next.next();
    }
    let mut batch = Vec::new();
    for user in seen {
        let membership = keys::membership(incarnation, &user);
        if db.get(&membership).map_err(reading)?.is_none() {
            batch.push((membership, record::membership(None)));
        }
        batch.push((keys::trace(&user, incarnation), record::trace(&id, Seq::ZERO)));
        if batch.len() >= ROWS {
            write(db, device, &mut batch)?;
        }
    }
    // The record last: it says that the room is done.
    write(db, device, &mut batch)?;
    write(db, device, &mut vec![(key.to_vec(), record::room_from_1(old, bytes))])
}

fn read_event(
    db: &sled::Db,
    id: &RoomId,
    epoch: Epoch,
    seq: Seq,
) -> StoreResult<im_core::wire::Event> {
    let key = keys::event(epoch.incarnation, seq);
    let first = db.get(&key).map_err(reading)?;
    let first = first.ok_or_else(|| damaged("log: an event is missing; it"))?;
    let bytes = parts::join(&first, |part| db.get(parts::key(&key, part)).map_err(reading))?;
    record::read_event(id, epoch, seq, &bytes)
}

fn write(
    db: &sled::Db,
    device: &dyn Device,
    rows: &mut Vec<(keys::Key, Vec<u8>)>,
) -> StoreResult<()> {
    let mut batch = sled::Batch::default();
    rows.drain(..).for_each(|(key, value)| batch.insert(key, value));
    device.apply(db, batch).map_err(reading)
}
