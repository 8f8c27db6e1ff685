//! The transport suite over real sockets: commands by POST, pushes by long polling.

mod support;

type Served = support::Served<25>;

im_testkit::transport_suite!(polls: Served);
