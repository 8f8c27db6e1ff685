//! Families fight a monster, live over four transports side by side.
//!
//! | module | what it holds |
//! |---|---|
//! | `game` | the rules, pure: damage, falls, leaders |
//! | `arena` | the game in the engine: rooms, the applied log, the published state |
//! | `access` | access rules: players may strike and chat, and write nothing else |
//! | `bots` | bots that fight |
//! | `heads` | sizes of request heads, and their connection, for the page |
//! | `late` | old updates sent again, which the engine has to refuse |
//! | `page` | the page and the JavaScript client, as routes |

pub mod access;
pub mod arena;
pub mod bots;
pub mod game;
pub mod heads;
pub mod late;
pub mod page;
