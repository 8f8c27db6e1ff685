//! Families fight a monster, live over four transports side by side.
//!
//! | module | what it holds |
//! |---|---|
//! | `game` | the rules, pure: what a blow does, when a monster falls, who leads |
//! | `arena` | the game in the engine: rooms, the log that is followed, the state that is published |
//! | `access` | who may do what: players strike and chat, and write nothing else |
//! | `bots` | families that fight by themselves |
//! | `heads` | tells the page how large the heads of a request were, and which connection carried it |
//! | `late` | old updates sent once more, which the engine has to refuse |
//! | `page` | the page and the JavaScript client, as routes |

pub mod access;
pub mod arena;
pub mod bots;
pub mod game;
pub mod heads;
pub mod late;
pub mod page;
