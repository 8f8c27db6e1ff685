//! The rules of the battle. They depend on no engine, clock or randomness: the same log always
//! yields the same battle, so a restart replays the log.

use std::collections::BTreeMap;

/// The families, as they are named in hits and in rooms.
pub const FAMILIES: [&str; 4] = ["foxes", "otters", "ravens", "badgers"];

const MONSTERS: [&str; 8] = [
    "Grumblefang",
    "Old Mossback",
    "The Soot Duchess",
    "Bogwillow",
    "Cinderjaw",
    "Lord Puddle",
    "Thistlewrath",
    "The Night Heron",
];

/// Players listed for one monster; hits of further ones count for their families only.
const MAX_PLAYERS: usize = 1_000;
/// Lines of the published ranking.
pub const RANKED: usize = 10;

/// A hit that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit<'a> {
    /// Its offset in the log.
    pub seq: u64,
    /// The player.
    pub by: &'a str,
    /// The family, an index into [`FAMILIES`].
    pub family: usize,
}

/// The effect of a hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blow {
    /// The player.
    pub by: String,
    /// The family, an index into [`FAMILIES`].
    pub family: usize,
    /// Hit points lost.
    pub damage: u32,
    /// Whether it was critical.
    pub critical: bool,
}

/// One line of the ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rank<'a> {
    /// The player.
    pub name: &'a str,
    /// The family, an index into [`FAMILIES`].
    pub family: usize,
    /// Damage done to this monster.
    pub damage: u32,
}

/// The state of a battle after a part of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Battle {
    /// The number of the monster, from 1.
    pub number: u32,
    /// The hit points left; zero if it is down.
    pub hp: u32,
    /// The offset of the last applied event.
    pub applied: u64,
    /// The last effective hit.
    pub last: Option<Blow>,
    /// Damage of each family to this monster.
    pub families: [u32; FAMILIES.len()],
    /// Monsters won by each family: those to which it did the most damage.
    pub trophies: [u32; FAMILIES.len()],
    players: BTreeMap<(String, usize), u32>,
}

impl Default for Battle {
    fn default() -> Self {
        Self {
            number: 1,
            hp: max_hp(1),
            applied: 0,
            last: None,
            families: [0; FAMILIES.len()],
            trophies: [0; FAMILIES.len()],
            players: BTreeMap::new(),
        }
    }
}

impl Battle {
    /// The monster's name.
    pub fn monster(&self) -> &'static str {
        MONSTERS[(self.number as usize - 1) % MONSTERS.len()]
    }

    /// The hit points that the monster started with.
    pub fn max_hp(&self) -> u32 {
        max_hp(self.number)
    }

    /// Whether the monster is down, and the next one is due.
    pub fn is_down(&self) -> bool {
        self.hp == 0
    }

    /// Applies a hit. It has no effect if the monster is down. Returns whether it was the last one.
    pub fn hit(&mut self, hit: Hit<'_>) -> bool {
        self.applied = hit.seq;
        if self.is_down() {
            return false;
        }
        let (damage, critical) = damage(hit.seq);
        let damage = damage.min(self.hp);
        self.hp -= damage;
        self.families[hit.family] += damage;
        let player = (hit.by.to_owned(), hit.family);
        if self.players.len() < MAX_PLAYERS || self.players.contains_key(&player) {
            *self.players.entry(player).or_default() += damage;
        }
        self.last = Some(Blow { by: hit.by.to_owned(), family: hit.family, damage, critical });
        if self.is_down() {
            self.trophies[self.leader()] += 1;
        }
        self.is_down()
    }

    /// Applies the appearance of the next monster. No effect while this one is alive.
    pub fn appear(&mut self, seq: u64) {
        self.applied = seq;
        if self.is_down() {
            let (number, trophies) = (self.number.saturating_add(1), self.trophies);
            *self = Self { number, hp: max_hp(number), applied: seq, trophies, ..Self::default() };
        }
    }

    /// Applies any other event.
    pub fn pass(&mut self, seq: u64) {
        self.applied = seq;
    }

    /// The family that did the most damage to this monster.
    pub fn leader(&self) -> usize {
        // The first one of a tie, so that each replay of the log yields the same family.
        (0..FAMILIES.len()).rev().max_by_key(|&family| self.families[family]).unwrap_or_default()
    }

    /// Returns the players with the most damage, at most [`RANKED`].
    pub fn ranking(&self) -> Vec<Rank<'_>> {
        let mut all: Vec<Rank<'_>> = self
            .players
            .iter()
            .map(|((name, family), damage)| Rank { name, family: *family, damage: *damage })
            .collect();
        all.sort_by(|a, b| b.damage.cmp(&a.damage).then_with(|| a.name.cmp(b.name)));
        all.truncate(RANKED);
        all
    }
}

/// Returns the index of a family.
pub fn family(name: &str) -> Option<usize> {
    FAMILIES.iter().position(|family| *family == name)
}

fn max_hp(number: u32) -> u32 {
    number.saturating_mul(300).saturating_add(700).min(4_000)
}

/// Returns the damage of the hit at this offset: pseudo-random and deterministic.
fn damage(seq: u64) -> (u32, bool) {
    let chance = mix(seq);
    let plain = 8 + (chance % 13) as u32;
    let critical = (chance >> 32).is_multiple_of(9);
    (if critical { plain * 3 } else { plain }, critical)
}

/// Pseudo-random numbers (SplitMix64, Steele et al. 2014).
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(seq: u64, by: &str, family: usize) -> Hit<'_> {
        Hit { seq, by, family }
    }

    /// Strikes until the monster is down, and returns the last offset.
    fn slay(battle: &mut Battle, by: &str, family: usize) -> u64 {
        let mut seq = battle.applied;
        loop {
            seq += 1;
            if battle.hit(hit(seq, by, family)) {
                return seq;
            }
        }
    }

    /// A blow reduces the monster's hit points by the damage it reports.
    #[test]
    fn blow_reduces_hp_and_is_ranked() {
        let mut battle = Battle::default();
        let full = battle.hp;
        assert!(!battle.hit(hit(5, "ada", 1)));
        let blow = battle.last.clone().unwrap();
        assert_eq!((blow.by.as_str(), blow.family), ("ada", 1));
        assert_eq!(battle.hp, full - blow.damage);
        assert_eq!(battle.families[1], blow.damage);
        assert_eq!(battle.ranking(), [Rank { name: "ada", family: 1, damage: blow.damage }]);
        assert_eq!(battle.applied, 5);
    }

    #[test]
    fn total_damage_equals_monster_hp() {
        let mut battle = Battle::default();
        slay(&mut battle, "ada", 2);
        assert_eq!(battle.families.iter().sum::<u32>(), battle.max_hp());
        assert_eq!(battle.trophies, [0, 0, 1, 0]);
    }

    /// A fallen monster ignores further blows, and the next one has more hit points.
    #[test]
    fn fallen_monster_is_replaced_by_stronger() {
        let mut battle = Battle::default();
        let seq = slay(&mut battle, "ada", 0);
        let down = battle.clone();
        assert!(!battle.hit(hit(seq + 1, "bela", 3)), "it falls once");
        assert_eq!(battle, Battle { applied: seq + 1, ..down });
        battle.appear(seq + 2);
        assert_eq!((battle.number, battle.hp, battle.applied), (2, max_hp(2), seq + 2));
        assert!(battle.hp > max_hp(1) && battle.ranking().is_empty());
        assert_eq!(battle.trophies, [1, 0, 0, 0], "trophies stay");
        battle.appear(seq + 3);
        assert_eq!(battle.number, 2, "one at a time");
    }

    #[test]
    fn ranking_is_sorted_and_bounded() {
        let mut battle = Battle { hp: u32::MAX, ..Battle::default() };
        let names: Vec<String> = (0..MAX_PLAYERS + 50).map(|n| format!("p{n:05}")).collect();
        for (seq, name) in names.iter().enumerate() {
            battle.hit(hit(seq as u64, name, seq % 4));
        }
        let ranking = battle.ranking();
        assert_eq!(ranking.len(), RANKED);
        assert!(ranking.is_sorted_by(|a, b| a.damage >= b.damage));
        assert_eq!(battle.players.len(), MAX_PLAYERS);
    }

    #[test]
    fn same_log_yields_same_battle() {
        let play = || {
            let mut battle = Battle::default();
            for seq in 1..400 {
                match seq % 50 {
                    0 => battle.appear(seq),
                    n => drop(battle.hit(hit(
                        seq,
                        ["ada", "bela"][seq as usize % 2],
                        n as usize % 4,
                    ))),
                }
            }
            battle
        };
        assert_eq!(play(), play());
        let critical = (1..1000).filter(|seq| damage(*seq).1).count();
        assert!((60..200).contains(&critical), "{critical} of a thousand");
    }

    #[test]
    fn first_of_tied_families_leads() {
        let mut battle = Battle::default();
        assert_eq!(battle.leader(), 0);
        battle.families = [3, 7, 7, 1];
        assert_eq!(battle.leader(), 1);
        assert_eq!((family("ravens"), family("dragons")), (Some(2), None));
    }
}
