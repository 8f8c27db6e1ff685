//! Page turns, for stores that read a few pages at a time. Not part of the suite.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use im_core::Seq;
use im_core::ports::Store;
use im_core::wire::PageFrom;

use super::fixture::*;

const PAGES: usize = 200;
const EVENTS: usize = 200;

/// A lookup waits only for the page reads in progress, not for the queued ones. Needs a runtime
/// with several threads.
pub async fn look_up_passes_pages(store: &Arc<dyn Store>) {
    let ann = user("ann");
    let room = open_group(store, "tea", &ann).await;
    let text = "x".repeat(2000);
    let batch = (0..EVENTS).map(|_| post(&room, &ann, &text)).collect();
    assert!(store.append(batch).await.iter().all(Result::is_ok));

    let done = Arc::new(AtomicUsize::new(0));
    let page = |_| {
        let (store, room, done) = (store.clone(), room.clone(), done.clone());
        tokio::spawn(async move {
            let page = read(&store, &room, PageFrom::After(Seq::FIRST), EVENTS).await;
            assert_eq!(page.events.len(), EVENTS);
            done.fetch_add(1, Ordering::Relaxed);
        })
    };
    let pages: Vec<_> = (0..PAGES).map(page).collect();
    // All pages are requested once the first ones are read.
    while done.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    let before = done.load(Ordering::Relaxed);
    assert!(store.room(&room).await.unwrap().is_some());
    let passed = done.load(Ordering::Relaxed) - before;
    for page in pages {
        page.await.unwrap();
    }
    assert!(passed < PAGES / 2, "{passed} pages were read first, of {}", PAGES - before);
}
