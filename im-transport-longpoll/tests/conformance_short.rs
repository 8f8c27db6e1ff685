//! The transport suite over real sockets: commands by POST, pushes by short polling.

mod support;

type Served = support::Served<0>;

im_testkit::transport_suite!(polls: Served);
