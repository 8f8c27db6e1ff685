//! What `im_core::keyed` makes of any database with ordered keys, tested on the least one: a map that is copied for each
//! transaction.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use im_core::keyed::{Database, KeyedStore, OpenAs, Rows, RowsMut, Step, Way};
use im_core::ports::{
    Appended, Durability, RoomDirectory, RoomLog, Store, StoreError, StoreErrorKind, StoreResult,
};
use im_core::state::{Act, Append, Authority, NewEvent, RoomSeed};
use im_core::wire::{Content, Limits, Role, RoomKind};
use im_core::{EventKind, RoomId, Timestamp, UserId};
use im_testkit::store_suite::{StoreFactory, async_trait};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// What stays when a store is closed.
type Disk = Arc<Mutex<Map>>;

struct Opened {
    disk: Disk,
    closed: Mutex<bool>,
    /// How many commits are about to fail.
    failing: Arc<AtomicUsize>,
}

/// One moment of a map.
struct Moment(Map);

fn of(disk: &Disk) -> std::sync::MutexGuard<'_, Map> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Opened {
    fn moment(&self) -> StoreResult<Moment> {
        if *self.closed.lock().unwrap() {
            return Err(StoreError::new(StoreErrorKind::Closed, "it was closed"));
        }
        Ok(Moment(of(&self.disk).clone()))
    }
}

impl Rows for Moment {
    fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }

    fn walk(
        &self,
        range: Range<&[u8]>,
        way: Way,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Step,
    ) -> StoreResult<()> {
        // Panics if an end stands before its beginning: nobody may ask that.
        let mut rows =
            self.0.range::<[u8], _>((Bound::Included(range.start), Bound::Excluded(range.end)));
        loop {
            let row = if way == Way::Forwards { rows.next() } else { rows.next_back() };
            let Some((key, value)) = row else { return Ok(()) };
            if each(key, value)?.is_break() {
                return Ok(());
            }
        }
    }
}

impl RowsMut for Moment {
    fn put(&mut self, key: &[u8], value: &[u8]) -> StoreResult<()> {
        self.0.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> StoreResult<()> {
        self.0.remove(key);
        Ok(())
    }
}

impl Database for Opened {
    fn name(&self) -> &'static str {
        "map"
    }

    /// A lie, so that it is opened again.
    fn durability(&self) -> Durability {
        Durability::ProcessCrash
    }

    fn read(&self, look: &mut dyn FnMut(&dyn Rows)) -> StoreResult<()> {
        look(&self.moment()?);
        Ok(())
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn RowsMut) -> StoreResult<()>) -> StoreResult<()> {
        let less = |left: usize| left.checked_sub(1);
        if self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "it is away"));
        }
        let mut moment = self.moment()?;
        work(&mut moment)?;
        *of(&self.disk) = moment.0;
        Ok(())
    }

    fn close(&self) -> StoreResult<()> {
        *self.closed.lock().unwrap() = true;
        Ok(())
    }
}

async fn open(disk: &Disk, open_as: OpenAs) -> StoreResult<KeyedStore<Opened>> {
    open_failing(disk, open_as, Arc::default()).await
}

async fn open_failing(
    disk: &Disk,
    open_as: OpenAs,
    failing: Arc<AtomicUsize>,
) -> StoreResult<KeyedStore<Opened>> {
    let disk = Arc::clone(disk);
    KeyedStore::open(Opened { disk, closed: Mutex::new(false), failing }, open_as).await
}

/// The latest disk.
#[derive(Default)]
struct Disks(Mutex<Disk>);

#[async_trait]
impl StoreFactory for Disks {
    async fn open(&self) -> Arc<dyn Store> {
        let disk = Disk::default();
        *self.0.lock().unwrap() = Arc::clone(&disk);
        Arc::new(open(&disk, OpenAs::SameGeneration).await.unwrap())
    }

    async fn reopen(&self, _closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        let disk = Arc::clone(&self.0.lock().unwrap());
        Some(Arc::new(open(&disk, OpenAs::SameGeneration).await.unwrap()))
    }
}

im_testkit::store_suite!(Disks::default());

fn create(room: &RoomId) -> Append {
    let ann = UserId::new("ann").unwrap();
    let seed =
        RoomSeed { kind: RoomKind::Group, open: true, members: vec![(ann.clone(), Role::Owner)] };
    let act = Act::Create { by: ann, seed };
    let at = Timestamp::from_millis(1);
    Append { room: room.clone(), authority: Authority::Service, act, at, max_members: 10 }
}

fn rooms() -> [RoomId; 3] {
    ["tea", "milk", "jam"].map(|name| RoomId::new(name).unwrap())
}

/// A corrupt record fails only the calls that read it.
#[tokio::test]
async fn damage_fails_only_affected_calls() {
    let disk = Disk::default();
    let store = open(&disk, OpenAs::SameGeneration).await.unwrap();
    let [tea, milk, jam] = rooms();
    // The record of a room that makes no sense.
    of(&disk).insert([&[1], milk.as_str().as_bytes()].concat(), b"?".to_vec());
    let batch = [&tea, &milk, &jam].map(create).to_vec();
    let kinds: Vec<_> =
        store.append(batch).await.into_iter().map(|r| r.map_err(|e| e.kind())).collect();
    let [Ok(Appended::Committed(_)), Err(StoreErrorKind::Corrupt), Ok(Appended::Committed(_))] =
        kinds.as_slice()
    else {
        panic!("{kinds:?}");
    };
    assert!(store.room(&tea).await.unwrap().is_some());
    assert_eq!(store.room(&milk).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}

fn post(room: &RoomId, n: usize) -> Append {
    let ann = UserId::new("ann").unwrap();
    let content = Content::text(&n.to_string(), &Limits::default()).unwrap();
    let event =
        NewEvent { from: ann.clone(), kind: EventKind::message(), content, idempotency_key: None };
    Append { authority: Authority::User(ann), act: Act::Post { event, seed: None }, ..create(room) }
}

/// Behind a failed append, no later append of its room in the batch is stored.
#[tokio::test]
async fn failed_append_fails_rest_of_room() {
    let (disk, failing) = (Disk::default(), Arc::<AtomicUsize>::default());
    let store = open_failing(&disk, OpenAs::SameGeneration, Arc::clone(&failing)).await.unwrap();
    let [tea, milk, _] = rooms();
    store
        .append(vec![create(&tea), create(&milk)])
        .await
        .into_iter()
        .for_each(|r| drop(r.unwrap()));
    // More than what shares a commit, and the first commit fails.
    failing.store(1, Ordering::SeqCst);
    let batch = (0..600).map(|n| post(if n % 2 == 0 { &tea } else { &milk }, n)).collect();
    let answers = store.append(batch).await;
    assert_eq!(answers.len(), 600);
    for part in 0..2 {
        let kept: Vec<_> = answers.iter().skip(part).step_by(2).map(Result::is_ok).collect();
        assert!(kept.is_sorted_by(|a, b| a >= b), "what is kept stands before what is not");
    }
    assert!(answers.iter().any(Result::is_err));
}

#[tokio::test]
async fn new_generation_keeps_everything_else() {
    let disk = Disk::default();
    let [tea, milk, _] = rooms();
    let store = open(&disk, OpenAs::SameGeneration).await.unwrap();
    store.append(vec![create(&tea)]).await.pop().unwrap().unwrap();
    let (first, state) = (store.room(&tea).await.unwrap().unwrap(), store_generation(&store).await);
    store.close().await.unwrap();

    let store = open(&disk, OpenAs::NewGeneration).await.unwrap();
    let second = store.room(&tea).await.unwrap().unwrap();
    assert_ne!(first.epoch.generation, second.epoch.generation);
    assert_eq!((first.epoch.incarnation, first.head), (second.epoch.incarnation, second.head));
    assert_ne!(store_generation(&store).await, state);
    store.append(vec![create(&milk)]).await.pop().unwrap().unwrap();
    let milk = store.room(&milk).await.unwrap().unwrap();
    assert_eq!(milk.epoch.generation, second.epoch.generation);
    assert_ne!(milk.epoch.incarnation, second.epoch.incarnation);
    store.close().await.unwrap();

    let store = open(&disk, OpenAs::SameGeneration).await.unwrap();
    assert_eq!(store.room(&tea).await.unwrap().unwrap().epoch, second.epoch);
}

async fn store_generation(store: &dyn Store) -> u64 {
    store.state_generation().await.unwrap()
}

#[tokio::test]
async fn foreign_layout_is_refused_untouched() {
    let disk = Disk::default();
    open(&disk, OpenAs::SameGeneration).await.unwrap().close().await.unwrap();
    // The layout is the first of four numbers.
    of(&disk).get_mut([0].as_slice()).unwrap()[1] = 99;
    let before = of(&disk).clone();
    for open_as in [OpenAs::SameGeneration, OpenAs::NewGeneration] {
        let error = open(&disk, open_as).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert!(error.to_string().contains("layout 99"), "{error}");
    }
    assert_eq!(*of(&disk), before);
}
