//! Which action answers a check by name, by its fix text, or by its category: found without scanning the actions.
//!
//! Built once per stack. Names are looked up in a map, fix texts walk a trie of words, categories are seven pairs of
//! words with the first action of each. Of several answers the first in file order wins, so that the answer does not
//! depend on the order of anything else.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::action::Action;
use crate::model::word::Category;

/// A word of the check and the word of the action that belongs to it.
const PAIRS: [(Keyword, Keyword); 7] = [
    (Keyword::Cache, Keyword::Cache),
    (Keyword::Permission, Keyword::Permission),
    (Keyword::Database, Keyword::Database),
    (Keyword::Dependency, Keyword::Update),
    (Keyword::Process, Keyword::Restart),
    (Keyword::Queue, Keyword::Queue),
    (Keyword::Build, Keyword::Build),
];

/// Longer words name no action; a foreign text may hold anything.
const WORD_BYTES_MAX: usize = 64;

/// Fix texts are read up to here.
const TEXT_BYTES_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Cache,
    Permission,
    Database,
    Dependency,
    Update,
    Process,
    Restart,
    Queue,
    Build,
}

impl Keyword {
    /// A lower-case word in singular or plural.
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "cache" | "caches" => Self::Cache,
            "permission" | "permissions" => Self::Permission,
            "database" | "databases" => Self::Database,
            "dependency" | "dependencies" => Self::Dependency,
            "update" | "updates" => Self::Update,
            "process" | "processes" => Self::Process,
            "restart" | "restarts" => Self::Restart,
            "queue" | "queues" => Self::Queue,
            "build" | "builds" | "rebuild" | "rebuilds" => Self::Build,
            _ => return None,
        })
    }
}

/// FNV-1a. The keys of the maps are stack files' words, which root wrote, so no hash needs to withstand an attacker.
#[derive(Debug, Clone)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23);
    }
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Fnv>>;

#[derive(Debug, Clone, Copy)]
struct Branch {
    next: u32,
    /// First action whose name ends here.
    action: Option<usize>,
}

/// The index over a stack's actions.
#[derive(Debug, Clone, Default)]
pub struct Index {
    by_check: Map<Box<str>, usize>,
    words: Map<Box<str>, u32>,
    branches: Map<(u32, u32), Branch>,
    by_pair: [Option<usize>; PAIRS.len()],
}

impl Index {
    /// Builds it.
    pub(super) fn new(actions: &[Action]) -> Self {
        let mut index = Self::default();
        let mut nodes = 0_u32;
        for (place, action) in actions.iter().enumerate() {
            let name = action.name.as_str();
            index.by_check.entry(name.into()).or_insert(place);
            let mut node = 0_u32;
            let words: Vec<_> = words_of(name).collect();
            for (nth, word) in words.iter().enumerate() {
                let count = u32::try_from(index.words.len()).unwrap_or(u32::MAX);
                let id = *index.words.entry(word.as_str().into()).or_insert(count);
                let branch = index.branches.entry((node, id)).or_insert_with(|| {
                    nodes += 1;
                    Branch {
                        next: nodes,
                        action: None,
                    }
                });
                if nth + 1 == words.len() {
                    branch.action.get_or_insert(place);
                }
                node = branch.next;
                for (slot, (_, of_action)) in index.by_pair.iter_mut().zip(PAIRS) {
                    if Keyword::of(word) == Some(of_action) {
                        slot.get_or_insert(place);
                    }
                }
            }
        }
        // A whole name is stronger than one followed by `_fix`, whatever their order.
        for (place, action) in actions.iter().enumerate() {
            if let Some(check) = action.name.as_str().strip_suffix("_fix") {
                index.by_check.entry(check.into()).or_insert(place);
            }
        }
        index
    }

    /// The action that bears the check's name, alone or followed by `_fix`.
    pub fn exact(&self, check: &str) -> Option<usize> {
        self.by_check.get(check).copied()
    }

    /// The action whose name stands in the text as whole words, underscores as spaces.
    pub fn suggested(&self, text: &str) -> Option<usize> {
        let mut best: Option<usize> = None;
        let mut open: Vec<u32> = Vec::with_capacity(4);
        each_word(text, |word| {
            let Some(id) = self.words.get(word).copied() else {
                open.clear();
                return;
            };
            open.push(0);
            open.retain_mut(|node| match self.branches.get(&(*node, id)) {
                None => false,
                Some(branch) => {
                    if let Some(action) = branch.action {
                        best = Some(best.map_or(action, |best| best.min(action)));
                    }
                    *node = branch.next;
                    true
                }
            });
        });
        best
    }

    /// The action that belongs to a word of the check's name or to its category.
    pub fn category(&self, check: &str, category: Category) -> Option<usize> {
        let mut best: Option<usize> = None;
        let mut ask = |word: &str| {
            let Some(keyword) = Keyword::of(word) else {
                return;
            };
            for (slot, (of_check, _)) in self.by_pair.iter().zip(PAIRS) {
                if of_check == keyword
                    && let Some(action) = *slot
                {
                    best = Some(best.map_or(action, |best| best.min(action)));
                }
            }
        };
        match category {
            Category::Database => ask("database"),
            Category::Dependencies => ask("dependency"),
            Category::System
            | Category::Security
            | Category::Performance
            | Category::Configuration => {}
        }
        each_word(check, ask);
        best
    }
}

fn words_of(name: &str) -> impl Iterator<Item = String> {
    let mut words = Vec::new();
    each_word(name, |word| words.push(word.to_owned()));
    words.into_iter()
}

/// Runs of letters and digits, in lower case. Bytes of other alphabets count as letters.
fn each_word(text: &str, mut take: impl FnMut(&str)) {
    let mut buffer = [0_u8; WORD_BYTES_MAX];
    let mut length = 0;
    let mut flush = |buffer: &[u8; WORD_BYTES_MAX], length: &mut usize| {
        if *length > 0 {
            // Too long a word is passed on cut, or not UTF-8 where the cut fell: it names nothing, but it separates.
            let word = buffer
                .get(..*length)
                .and_then(|bytes| std::str::from_utf8(bytes).ok());
            take(word.unwrap_or("\u{0}"));
            *length = 0;
        }
    };
    for byte in text.bytes().take(TEXT_BYTES_MAX) {
        if byte.is_ascii_alphanumeric() || !byte.is_ascii() {
            if let Some(slot) = buffer.get_mut(length) {
                *slot = byte.to_ascii_lowercase();
            }
            length += 1;
        } else {
            flush(&buffer, &mut length);
        }
    }
    flush(&buffer, &mut length);
}
