//! What was measured, as a table for people and as JSON for programs.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::{machine::Machine, stats::Spread};

/// A table.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name in JSON.
    pub id: &'static str,
    /// Its heading.
    pub title: String,
    /// What its heads mean, a line each.
    pub notes: Vec<String>,
    /// The heads of its columns, the first one that of the rows' names.
    pub columns: Vec<String>,
    /// Its rows: a name, and a cell for every other column. Further cells are in the JSON only.
    pub rows: Vec<(String, Vec<Cell>)>,
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Cell {
    key: &'static str,
    text: String,
    value: Value,
}

/// A line of what was to be reached, and whether it was.
#[derive(Clone, Debug)]
pub struct Target {
    /// What is to be reached.
    pub wanted: &'static str,
    /// What was measured.
    pub found: String,
    /// Whether that is enough.
    pub holds: bool,
}

impl Cell {
    /// A median with the middle half of the rounds behind it; so many digits, and none where they say nothing.
    pub fn spread(key: &'static str, spread: Spread, digits: usize) -> Self {
        let Spread { median, p25, p75 } = spread;
        let digits = if median < 100.0 { digits } else { 0 };
        Self {
            key, text: format!("{median:.digits$} [{p25:.digits$}–{p75:.digits$}]"), value: json!(spread)
        }
    }

    /// A single number.
    pub fn number(key: &'static str, number: f64, digits: usize) -> Self {
        Self { key, text: format!("{number:.digits$}"), value: json!(number) }
    }

    /// A figure that this row has none of.
    pub fn none(key: &'static str) -> Self {
        Self { key, text: "–".to_owned(), value: Value::Null }
    }

    /// Every single value, for the JSON.
    pub fn series(key: &'static str, values: impl IntoIterator<Item = f64>) -> Self {
        Self { key, text: String::new(), value: values.into_iter().collect() }
    }

    /// Words, for the JSON.
    pub fn words(key: &'static str, words: &[String]) -> Self {
        Self { key, text: String::new(), value: json!(words) }
    }

    /// The median of this cell.
    pub fn median(&self) -> f64 {
        self.value["median"].as_f64().or(self.value.as_f64()).unwrap_or(f64::NAN)
    }
}

impl Section {
    /// The median in a row, by the names of row and figure; not a number if there is none.
    pub fn median(&self, row: &str, key: &str) -> f64 {
        self.cell(row, key).map_or(f64::NAN, Cell::median)
    }

    /// The spread in a row.
    pub fn spread(&self, row: &str, key: &str) -> Option<Spread> {
        let value = &self.cell(row, key)?.value;
        let number = |name| value[name as &str].as_f64();
        Some(Spread { median: number("median")?, p25: number("p25")?, p75: number("p75")? })
    }

    /// Every single value in a row; none if there are none.
    pub fn series(&self, row: &str, key: &str) -> Vec<f64> {
        let values = self.cell(row, key).and_then(|cell| cell.value.as_array());
        values.into_iter().flatten().filter_map(Value::as_f64).collect()
    }

    fn cell(&self, row: &str, key: &str) -> Option<&Cell> {
        let (_, cells) = self.rows.iter().find(|(name, _)| name == row)?;
        cells.iter().find(|cell| cell.key == key)
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, cells)| {
            let mut row = Map::from_iter([("name".to_owned(), json!(name))]);
            row.extend(cells.iter().map(|cell| (cell.key.to_owned(), cell.value.clone())));
            Value::Object(row)
        });
        Value::Array(rows.collect())
    }
}

/// Everything in Markdown, its tables aligned.
pub fn markdown(machine: &Machine, sections: &[Section], targets: &[Target]) -> String {
    let mut text = format!("{machine}\n");
    for section in sections {
        let head = section.columns.clone();
        let rows = section.rows.iter().map(|(name, cells)| {
            std::iter::once(name.clone()).chain(cells.iter().map(|cell| cell.text.clone())).collect()
        });
        write_table(&mut text, &section.title, &head, &rows.collect::<Vec<_>>());
        section.notes.iter().for_each(|note| text.push_str(&format!("\n{note}\n")));
    }
    if !targets.is_empty() {
        let head = ["to reach", "measured", ""].map(str::to_owned);
        let rows = targets.iter().map(|target| {
            let word = if target.holds { "yes" } else { "no" };
            vec![target.wanted.to_owned(), target.found.clone(), word.to_owned()]
        });
        write_table(&mut text, "To reach", &head, &rows.collect::<Vec<_>>());
    }
    text
}

fn write_table(text: &mut String, title: &str, head: &[String], rows: &[Vec<String>]) {
    let all = || std::iter::once(head).chain(rows.iter().map(Vec::as_slice));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = all().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(2)
        })
        .collect();
    let mut rule: Vec<String> = widths.iter().map(|width| format!("{}:", "-".repeat(width - 1))).collect();
    rule[0] = "-".repeat(widths[0]);
    text.push_str(&format!("\n## {title}\n\n"));
    for row in std::iter::once(head).chain([&rule[..]]).chain(rows.iter().map(Vec::as_slice)) {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Names to the left, figures to the right.
            let cell = if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            text.push_str(&format!("| {cell} "));
        }
        text.push_str("|\n");
    }
}

/// Writes `bench.md` and `bench.json` into `folder`.
pub fn write(folder: &Path, markdown: &str, machine: &Machine, sections: &[Section]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut all = Map::from_iter([("machine".to_owned(), json!(machine))]);
    all.extend(sections.iter().map(|section| (section.id.to_owned(), section.json())));
    put(&folder.join("bench.md"), markdown)?;
    put(&folder.join("bench.json"), &format!("{}\n", serde_json::to_string_pretty(&all)?))
}

/// Writes one file.
pub fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}
