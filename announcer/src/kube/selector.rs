//! Label selectors, checked once when they are read and cheap to match ever after.
//!
//! Semantics are Kubernetes' (`metav1.LabelSelectorAsSelector`) with one addition: a `matchLabels` value of exactly `*`
//! means *the label exists, with any value*. MetalLB users write `kubernetes.io/hostname: "*"` for every node; the API
//! server accepts it in a custom resource, and Kubernetes' own parser would refuse it because `*` is no label value.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::invalid::{Fault, Problem};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A conjunction of requirements; without any it matches everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Requirement {
    key: String,
    condition: Condition,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Condition {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Whether an object with these labels is selected. `NotIn` holds as well where the label is absent.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|Requirement { key, condition }| {
            let value = labels.get(key);
            match condition {
                Condition::In(values) => value.is_some_and(|v| values.contains(v)),
                Condition::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
                Condition::Exists => value.is_some(),
                Condition::Absent => value.is_none(),
            }
        })
    }

    pub(super) fn read(selector: &LabelSelector) -> Result<Self, Fault> {
        let LabelSelector { match_expressions, match_labels } = selector;
        let labels = match_labels.iter().flatten().map(|(key, value)| match_label(key, value));
        let expressions = match_expressions.iter().flatten().enumerate().map(|(i, e)| {
            match_expression(e).map_err(|fault| fault.within(format_args!("matchExpressions[{i}]")))
        });
        labels.chain(expressions).collect::<Result<_, _>>().map(Self)
    }

    /// Reads the selectors of `spec.<field>`.
    pub(super) fn read_all(field: &str, selectors: &[LabelSelector]) -> Result<Vec<Self>, Fault> {
        selectors
            .iter()
            .enumerate()
            .map(|(i, s)| Self::read(s).map_err(|fault| fault.within(format_args!("spec.{field}[{i}]"))))
            .collect()
    }
}

/// Whether any of `selectors` matches; with none at all, everything does (MetalLB's rule for every list of selectors).
pub fn any_or_none_given(selectors: &[Selector], labels: &Labels) -> bool {
    selectors.is_empty() || selectors.iter().any(|s| s.matches(labels))
}

fn match_label(key: &str, value: &str) -> Result<Requirement, Fault> {
    check_key("matchLabels", key)?;
    let condition = if value == "*" {
        Condition::Exists
    } else {
        check_value(&format!("matchLabels[{key}]"), value)?;
        Condition::In([value.to_owned()].into())
    };
    Ok(Requirement { key: key.to_owned(), condition })
}

fn match_expression(requirement: &LabelSelectorRequirement) -> Result<Requirement, Fault> {
    let LabelSelectorRequirement { key, operator, values } = requirement;
    let values: BTreeSet<String> = values.iter().flatten().cloned().collect();
    check_key("key", key)?;
    let condition = match (operator.as_str(), values.is_empty()) {
        ("In", false) => Condition::In(values),
        ("NotIn", false) => Condition::NotIn(values),
        ("Exists", true) => Condition::Exists,
        ("DoesNotExist", true) => Condition::Absent,
        ("In" | "NotIn", true) => return Err(Fault::new("values", Problem::ValuesMissing(operator.clone()))),
        ("Exists" | "DoesNotExist", false) => {
            return Err(Fault::new("values", Problem::ValuesGiven(operator.clone())));
        }
        _ => return Err(Fault::new("operator", Problem::Operator(operator.clone()))),
    };
    if let Condition::In(values) | Condition::NotIn(values) = &condition {
        values.iter().try_for_each(|value| check_value("values", value))?;
    }
    Ok(Requirement { key: key.clone(), condition })
}

fn check_key(field: &str, key: &str) -> Result<(), Fault> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let legal = prefix.is_none_or(is_subdomain) && !name.is_empty() && is_name(name);
    if legal { Ok(()) } else { Err(Fault::new(field, Problem::LabelKey(key.to_owned()))) }
}

fn check_value(field: &str, value: &str) -> Result<(), Fault> {
    let legal = value.is_empty() || is_name(value);
    if legal { Ok(()) } else { Err(Fault::new(field, Problem::LabelValue(value.to_owned()))) }
}

/// Kubernetes' `qualifiedNameFmt` without its prefix.
fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().copied().all(inner)
}

/// Kubernetes' `dns1123SubdomainFmt`.
fn is_subdomain(text: &str) -> bool {
    let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let label = |l: &[u8]| outer(l.first()) && outer(l.last()) && l.iter().all(inner);
    text.len() <= 253 && text.as_bytes().split(|b| *b == b'.').all(label)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(selector: Value) -> Result<Selector, Fault> {
        Selector::read(&serde_json::from_value(selector).expect("a LabelSelector"))
    }

    fn matches(selector: Value, labels: Value) -> bool {
        let labels: Labels = serde_json::from_value(labels).expect("labels");
        read(selector).expect("a valid selector").matches(&labels)
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(matches(json!({}), json!({})));
    }

    #[test]
    fn all_labels_and_expressions_must_match() {
        let selector = json!({
            "matchLabels": {"rack": "1"},
            "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}],
        });
        assert!(matches(selector.clone(), json!({"rack": "1", "zone": "b"})));
        assert!(!matches(selector.clone(), json!({"rack": "1", "zone": "c"})));
        assert!(!matches(selector, json!({"rack": "2", "zone": "a"})));
    }

    #[test]
    fn a_label_value_of_one_star_matches_any_value_but_not_absence() {
        let selector = json!({"matchLabels": {"kubernetes.io/hostname": "*"}});
        assert!(matches(selector.clone(), json!({"kubernetes.io/hostname": "bettley"})));
        assert!(!matches(selector, json!({})));
    }

    #[test]
    fn not_in_holds_where_the_label_is_absent() {
        let selector = json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]});
        assert!(matches(selector.clone(), json!({})));
        assert!(matches(selector.clone(), json!({"zone": "b"})));
        assert!(!matches(selector, json!({"zone": "a"})));
    }

    #[test]
    fn exists_and_does_not_exist_look_at_the_key_alone() {
        let exists = |operator: &str| json!({"matchExpressions": [{"key": "gpu", "operator": operator}]});
        assert!(matches(exists("Exists"), json!({"gpu": ""})));
        assert!(!matches(exists("Exists"), json!({})));
        assert!(matches(exists("DoesNotExist"), json!({})));
        assert!(!matches(exists("DoesNotExist"), json!({"gpu": ""})));
    }

    #[test]
    fn what_kubernetes_would_refuse_is_refused_by_name() {
        let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let at = |field: &str, problem: Problem| Err(Fault::new(field, problem));
        let cases = [
            (
                expression("a", "in", json!(["b"])),
                at("matchExpressions[0].operator", Problem::Operator("in".into())),
            ),
            (
                expression("a", "In", json!([])),
                at("matchExpressions[0].values", Problem::ValuesMissing("In".into())),
            ),
            (
                expression("a", "Exists", json!(["b"])),
                at("matchExpressions[0].values", Problem::ValuesGiven("Exists".into())),
            ),
            (
                expression("a", "In", json!(["*"])),
                at("matchExpressions[0].values", Problem::LabelValue("*".into())),
            ),
            (
                expression("a b", "Exists", json!([])),
                at("matchExpressions[0].key", Problem::LabelKey("a b".into())),
            ),
            (json!({"matchLabels": {"/a": "b"}}), at("matchLabels", Problem::LabelKey("/a".into()))),
            (json!({"matchLabels": {"a": "-b"}}), at("matchLabels[a]", Problem::LabelValue("-b".into()))),
        ];
        for (selector, verdict) in cases {
            assert_eq!(read(selector.clone()), verdict, "{selector}");
        }
    }

    #[test]
    fn no_selector_at_all_selects_everything() {
        assert!(any_or_none_given(&[], &Labels::new()));
    }
}
