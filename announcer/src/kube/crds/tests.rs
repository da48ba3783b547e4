//! Objects made from MetalLB's own schemas, as `deploy/crds` holds them: whatever they accept can be read.

use kube::{CustomResourceExt as _, core::DynamicObject};
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

/// Required properties always, others mostly, `null` now and then.
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
    members.prop_map(|members| Value::Object(members.into_iter().flatten().collect())).boxed()
}

/// An object of the API server: its metadata is always in order.
fn object(mut accepted: Value) -> DynamicObject {
    accepted["metadata"] = json!({"namespace": "metallb", "name": "generated"});
    accepted["apiVersion"] = "metallb.io/v1beta1".into();
    accepted["kind"] = "Generated".into();
    serde_json::from_value(accepted).expect("an object")
}

/// Reads many objects that the schema accepts: each is understood, or told to be wrong in content, never in shape.
fn all_are_readable<T>(crd: &str, read: fn(&DynamicObject) -> Result<T, Box<InvalidObject>>) -> [u32; 2] {
    let mut told = [0; 2];
    let seen = std::cell::RefCell::new(&mut told);
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })
        .run(&accepted(&schema(crd)), |value| {
            let read = read(&object(value));
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

#[test]
fn our_types_have_the_fields_of_metallbs_schemas() {
    let ours = [
        (IPAddressPool::crd(), POOLS),
        (L2Advertisement::crd(), ADVERTISEMENTS),
        (ServiceL2Status::crd(), STATUSES),
    ];
    for (crd, theirs) in ours {
        let ours = serde_json::to_value(crd).expect("JSON");
        let (ours, theirs) = (&ours["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &schema(theirs));
        for part in ["spec", "status"] {
            let fields = |schema: &Value| -> Vec<String> {
                schema["properties"][part]["properties"]
                    .as_object()
                    .into_iter()
                    .flat_map(|p| p.keys().cloned())
                    .collect()
            };
            assert_eq!(fields(ours), fields(theirs), "{part}");
        }
    }
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
