//! Objects made from MetalLB's own schemas, as `deploy/crds` holds them: whatever they accept can be read.

use proptest::{
    collection::{hash_map, vec},
    prelude::*,
    test_runner::TestRunner,
};
use serde_json::json;

use super::*;
use crate::kube::{Advertisement, InvalidObject, Pool};

const POOLS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/metallb.io_ipaddresspools.yaml"));
const ADVERTISEMENTS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/metallb.io_l2advertisements.yaml"));
const STATUSES: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/metallb.io_servicel2statuses.yaml"));

/// A field that a later MetalLB might add.
const FUTURE: &str = "fieldOfTomorrow";

fn schema(crd: &str) -> Value {
    let crd: Value = serde_saphyr::from_str(crd).expect("YAML");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Any value that the schema accepts.
fn accepted(schema: &Value) -> BoxedStrategy<Value> {
    match schema["type"].as_str().expect("a type") {
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" => {
            let wide = if schema["format"] == "int32" {
                i64::from(i32::MIN)..=i32::MAX.into()
            } else {
                i64::MIN..=i64::MAX
            };
            let bound = |name: &str, or: i64| schema[name].as_i64().unwrap_or(or);
            (bound("minimum", *wide.start())..=bound("maximum", *wide.end())).prop_map(Value::from).boxed()
        }
        "string" => prop_oneof![
            "10\\.4\\.[0-9]{1,2}\\.0/2[0-9]",
            "10\\.4\\.1\\.[0-9]-10\\.4\\.1\\.[0-9]{2}",
            "fd00::[0-9]/1[0-9]{2}",
            "In|NotIn|Exists|DoesNotExist",
            "[a-z]{1,3}(/[a-z]{1,3})?",
            "\\*",
            any::<String>(),
        ]
        .prop_map(Value::from)
        .boxed(),
        "array" => vec(accepted(&schema["items"]), 0..3).prop_map(Value::from).boxed(),
        "object" if schema["additionalProperties"].is_object() => {
            let value = accepted(&schema["additionalProperties"]);
            hash_map("[a-z*]{1,3}|.*", value, 0..3).prop_map(|map| map.into_iter().collect()).boxed()
        }
        "object" => properties(schema),
        other => panic!("a type that MetalLB's schemas do not use: {other}"),
    }
}

/// Required properties always, others mostly, `null` now and then, and now and then one that the schema does not have.
fn properties(schema: &Value) -> BoxedStrategy<Value> {
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let required = |name: &String| schema["required"].as_array().is_some_and(|r| r.contains(&json!(name)));
    let members: Vec<_> = properties
        .iter()
        .map(|(name, schema)| {
            let (name, value) = (name.clone(), accepted(schema));
            let present = if required(&name) {
                value.prop_map(Some).boxed()
            } else {
                prop_oneof![6 => value.prop_map(Some), 2 => Just(None), 1 => Just(Some(Value::Null))].boxed()
            };
            present.prop_map(move |value| Some((name.clone(), value?)))
        })
        .collect();
    let future = prop_oneof![9 => Just(None), 1 => Just(Some((FUTURE.to_owned(), json!({"a": [1]}))))];
    (members, future)
        .prop_map(|(members, future)| Value::Object(members.into_iter().flatten().chain(future).collect()))
        .boxed()
}

/// An object of the API server: its metadata is always in order.
fn object(mut accepted: Value) -> Custom {
    accepted["metadata"] = json!({"namespace": "metallb", "name": "generated"});
    accepted["apiVersion"] = "metallb.io/v1beta1".into();
    accepted["kind"] = "Generated".into();
    serde_json::from_value(accepted).expect("an object")
}

/// Reads many objects that the schema accepts: each is understood, or told to be wrong in content, never in shape.
fn all_are_readable<T>(crd: &str, read: fn(Custom) -> Result<T, Box<InvalidObject>>) -> [u32; 2] {
    let mut told = [0; 2];
    let seen = std::cell::RefCell::new(&mut told);
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })
        .run(&accepted(&schema(crd)), |value| {
            let read = read(object(value));
            seen.borrow_mut()[usize::from(read.is_err())] += 1;
            if let Err(invalid) = read {
                prop_assert!(!matches!(invalid.problem, Problem::Type(_)), "{}", invalid);
                prop_assert!(invalid.field.starts_with("spec."), "{}", invalid);
            }
            Ok(())
        })
        .expect("every object is readable");
    told
}

#[test]
fn every_pool_that_metallbs_schema_accepts_can_be_read() {
    let [understood, invalid] = all_are_readable(POOLS, Pool::read);
    assert!(understood > 50 && invalid > 50, "too one-sided: {understood} understood, {invalid} invalid");
}

#[test]
fn every_advertisement_that_metallbs_schema_accepts_can_be_read() {
    let [understood, invalid] = all_are_readable(ADVERTISEMENTS, Advertisement::read);
    assert!(understood > 50 && invalid > 50, "too one-sided: {understood} understood, {invalid} invalid");
}

/// Whether `ours` says all that `theirs` says: `null`, empty lists and maps, and fields of tomorrow say nothing.
fn says_all(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            theirs.iter().filter(|(name, _)| *name != FUTURE).all(|(name, theirs)| match ours.get(name) {
                Some(ours) => says_all(ours, theirs),
                None => says_all(&json!({}), theirs) || says_all(&json!([]), theirs) || theirs.is_null(),
            })
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| says_all(ours, theirs))
        }
        (ours, theirs) => ours == theirs || theirs.is_null(),
    }
}

/// Reads many objects that the schema accepts into the kind's own type, and compares it written again.
fn nothing_is_lost<K: DeserializeOwned + Serialize>(crd: &str) {
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })
        .run(&accepted(&schema(crd)), |value| {
            let mut accepted = without_nulls(value);
            accepted["metadata"] = json!({"namespace": "metallb", "name": "generated"});
            let object = accepted.as_object_mut().expect("an object");
            object.remove("apiVersion");
            object.remove("kind");
            let read: K =
                serde_json::from_value(accepted.clone()).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let written = serde_json::to_value(read).expect("JSON");
            prop_assert!(says_all(&written, &accepted), "{accepted}\nwas written again as\n{written}");
            Ok(())
        })
        .expect("nothing is lost");
}

#[test]
fn nothing_of_a_pool_is_lost_in_reading() {
    nothing_is_lost::<IPAddressPool>(POOLS);
}

#[test]
fn nothing_of_an_advertisement_is_lost_in_reading_with_or_without_a_spec() {
    nothing_is_lost::<L2Advertisement>(ADVERTISEMENTS);
}

#[test]
fn nothing_of_a_status_is_lost_in_reading() {
    nothing_is_lost::<ServiceL2Status>(STATUSES);
}

/// What in `ours` refuses something that `theirs` accepts, by path; understands what these schemas use.
fn refusals(path: &str, ours: &Value, theirs: &Value) -> Vec<String> {
    let keys = ["title", "description", "nullable", "type", "format", "items", "properties", "required"];
    let more = ["additionalProperties", "minimum", "maximum"];
    let none = Map::new();
    let members = |schema: &Value| schema["properties"].as_object().unwrap_or(&none).clone();
    let required = |schema: &Value| schema["required"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<String> = Vec::new();
    let mut refuse = |what: &str| found.push(format!("{path}: {what}"));
    for key in ours.as_object().into_iter().flat_map(Map::keys) {
        if !keys.contains(&key.as_str()) && !more.contains(&key.as_str()) && ours[key] != theirs[key] {
            refuse(key);
        }
    }
    let narrow = |format: &Value| format == "int32" && theirs["format"] != "int32";
    if ours["type"] != theirs["type"] || narrow(&ours["format"]) {
        refuse("type");
    }
    if required(ours).iter().any(|name| !required(theirs).contains(name)) {
        refuse("required");
    }
    let bound = |schema: &Value, name: &str| schema[name].as_f64();
    if bound(ours, "minimum").is_some_and(|ours| bound(theirs, "minimum").is_none_or(|theirs| theirs < ours))
        || bound(ours, "maximum")
            .is_some_and(|ours| bound(theirs, "maximum").is_none_or(|theirs| theirs > ours))
    {
        refuse("bounds");
    }
    for (name, theirs) in members(theirs) {
        // The API server checks these three by itself.
        if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            continue;
        }
        match members(ours).get(&name) {
            Some(ours) => found.extend(refusals(&format!("{path}.{name}"), ours, &theirs)),
            None => found.push(format!("{path}.{name}: pruned")),
        }
    }
    for inner in ["items", "additionalProperties"].into_iter().filter(|inner| theirs[inner].is_object()) {
        found.extend(refusals(&format!("{path}[]"), &ours[inner], &theirs[inner]));
    }
    found
}

#[test]
fn our_definitions_admit_whatever_metallbs_admit_and_keep_every_field() {
    for (ours, theirs) in
        definitions().expect("definitions").into_iter().zip([POOLS, ADVERTISEMENTS, STATUSES])
    {
        let (ours, theirs): (Value, Value) =
            (serde_json::to_value(ours).expect("JSON"), serde_saphyr::from_str(theirs).expect("YAML"));
        for part in ["group", "names", "scope"] {
            let none = Map::new();
            for (name, theirs) in theirs["spec"][part].as_object().unwrap_or(&none) {
                assert!(name == "listKind" || ours["spec"][part][name] == *theirs, "{part}.{name}");
            }
        }
        assert_eq!(ours["metadata"]["name"], theirs["metadata"]["name"]);
        let version = |crd: &Value| crd["spec"]["versions"][0].clone();
        let (ours, theirs) = (version(&ours), version(&theirs));
        for part in ["name", "served", "storage", "subresources", "additionalPrinterColumns"] {
            assert_eq!(ours[part], theirs[part], "{part}");
        }
        let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
        assert_eq!(refusals("", &schema(&ours), &schema(&theirs)), [""; 0]);
    }
}

#[test]
fn a_schema_that_refuses_more_is_found() {
    let theirs = json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}, "b": {"type": "string"}}});
    let ours =
        json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "maximum": 8}}});
    assert_eq!(refusals("", &ours, &theirs), [": required", ".a: bounds", ".b: pruned"]);
}

#[test]
fn an_object_read_and_written_again_says_the_same() {
    let spec = json!({
        "ipAddressPools": ["primary"],
        "ipAddressPoolSelectors": [],
        "nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": "*"}}],
        "interfaces": ["eth0"],
        "serviceSelectors": [{"matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}]}],
        "preferredNodeSelectors": [{"weight": 7, "preference": {"matchLabels": {"rack": "1"}}}],
    });
    let read: L2AdvertisementSpec = serde_json::from_value(spec.clone()).expect("a spec");
    assert_eq!(serde_json::to_value(read).expect("JSON"), spec);
}
