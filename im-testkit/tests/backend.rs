//! The backend suite on memory, and on a map that outlives its backend: exclusive, and shared by several.

#[path = "support/maps.rs"]
mod maps;

use maps::{Maps, Memory};

mod memory {
    im_testkit::backend_suite!(super::Memory);
}

mod exclusive {
    im_testkit::backend_suite!(super::Maps::exclusive());
}

mod shared {
    im_testkit::backend_suite!(super::Maps::shared());
}
