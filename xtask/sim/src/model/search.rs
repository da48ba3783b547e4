//! Breadth first through every state that can be reached, so that the first story that ends badly is a shortest one.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hash, Hasher},
};

/// Something that can be explored.
pub trait Model {
    type State: Clone + Hash;
    type Action: Copy + std::fmt::Debug;

    fn start(&self) -> Self::State;
    /// Every step that may follow, and where it leads.
    fn steps(&self, from: &Self::State, found: &mut Vec<(Self::Action, Self::State)>);
    /// What is wrong with this state.
    fn wrong(&self, state: &Self::State) -> Option<String>;
    /// A state in few words.
    fn tell(&self, state: &Self::State) -> String;
}

/// How an exploration ended.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing that can be reached is wrong.
    Exhausted { states: usize },
    /// The shortest way to something wrong.
    Broken { states: usize, story: String },
    /// There is more than that.
    TooMany { states: usize },
}

/// States are told apart by 64 bits of hash: of 20 million, two are the same with a chance of one in 90 000.
fn key<T: Hash>(state: &T) -> u64 {
    let mut hasher = Mix(0x9e37_79b9_7f4a_7c15);
    state.hash(&mut hasher);
    hasher.finish()
}

/// Folded multiplication, as in wyhash: many times faster than the standard hasher on many small fields.
struct Mix(u64);

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            self.write_u64(u64::from_le_bytes(word) ^ (eight.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = fold(self.0 ^ n ^ 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db).wrapping_add(n);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.0 ^ 0x8ebc_6af0_9c88_c6e3, 0x5896_65cc_7537_4cc3)
    }
}

/// A key is a hash already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Explores at most `limit` states.
pub fn explore<M: Model>(model: &M, limit: usize) -> Outcome {
    let start = model.start();
    let mut known: HashSet<u64, BuildHasherDefault<Same>> = HashSet::default();
    known.insert(key(&start));
    // Of every state: the one before, and the step from there.
    let mut ways: Vec<(u32, Option<M::Action>)> = vec![(0, None)];
    let mut frontier = vec![(0_u32, start)];
    let mut found = Vec::new();
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for (from, state) in frontier {
            model.steps(&state, &mut found);
            for (action, to) in found.drain(..) {
                if !known.insert(key(&to)) {
                    continue;
                }
                let index = u32::try_from(ways.len()).unwrap_or(u32::MAX);
                ways.push((from, Some(action)));
                if let Some(wrong) = model.wrong(&to) {
                    return Outcome::Broken { states: ways.len(), story: story(model, &ways, index, &wrong) };
                }
                next.push((index, to));
            }
            if ways.len() > limit {
                return Outcome::TooMany { states: ways.len() };
            }
        }
        frontier = next;
    }
    Outcome::Exhausted { states: ways.len() }
}

fn story<M: Model>(model: &M, ways: &[(u32, Option<M::Action>)], last: u32, wrong: &str) -> String {
    let mut actions = Vec::new();
    let mut at = last as usize;
    while let Some((before, Some(action))) = ways.get(at) {
        actions.push(*action);
        at = *before as usize;
    }
    let mut state = model.start();
    let mut lines = vec![format!("   start                {}", model.tell(&state))];
    let mut found = Vec::new();
    for (n, action) in actions.iter().rev().enumerate() {
        let said = format!("{action:?}");
        found.clear();
        model.steps(&state, &mut found);
        if let Some((_, to)) = found.iter().find(|(other, _)| format!("{other:?}") == said) {
            state = to.clone();
        }
        lines.push(format!("{:2} {said:20} {}", n + 1, model.tell(&state)));
    }
    lines.push(format!("   {wrong}"));
    lines.join("\n")
}
