//! Objects as they might come: valid ones, changed in one place or some.

use serde_json::{Map, Value, json};

/// A generator that says the same for the same seed (SplitMix64).
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A valid object that holds every field which we read, and some which we do not. It has a UID of its kind.
pub(super) fn valid(kind: &str, name: &str) -> Value {
    let mut object = match kind {
        "Service" => json!({
            "metadata": {"namespace": "web"},
            "spec": {
                "type": "LoadBalancer", "loadBalancerClass": "x/y", "externalTrafficPolicy": "Local",
                "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}], "clusterIP": "10.96.0.9",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            },
            "status": {
                "loadBalancer": {"ingress": [{"ip": "10.9.0.1", "ipMode": "VIP"}, {"hostname": "lb"}]},
                "conditions": [{"type": "a", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        }),
        "EndpointSlice" => json!({
            "metadata": {"namespace": "web", "labels": {"kubernetes.io/service-name": "other"}},
            "addressType": "IPv4",
            "endpoints": [{
                "addresses": ["10.1.0.1"], "nodeName": "n", "zone": "z",
                "conditions": {"ready": true, "serving": true, "terminating": false},
            }],
            "ports": [{"port": 80}],
        }),
        "Node" => json!({
            "metadata": {},
            "spec": {"unschedulable": false, "taints": [{"key": "a", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}]},
            "status": {
                "conditions": [{
                    "type": "Ready", "status": "True", "message": "m",
                    "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
                "addresses": [{"type": "InternalIP", "address": "10.8.0.1"}],
                "nodeInfo": {"machineID": "m", "kernelVersion": "6.12"},
                "capacity": {"cpu": "2", "memory": "1Gi"}, "images": [{"names": ["i"], "sizeBytes": 7}],
            },
        }),
        "IPAddressPool" => json!({
            "metadata": {"namespace": "metallb"},
            "spec": {"addresses": ["10.9.0.0/24", "fd00::1-fd00::9"], "autoAssign": true, "avoidBuggyIPs": false},
            "status": {"assignedIPv4": 1},
        }),
        "L2Advertisement" => json!({
            "metadata": {"namespace": "metallb"},
            "spec": {
                "ipAddressPools": ["a"], "interfaces": ["eth0"],
                "nodeSelectors": [{"matchLabels": {"a": "b"}}],
                "ipAddressPoolSelectors": [{"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}],
                "preferredNodeSelectors": [{"weight": 7, "preference": {}}],
            },
        }),
        _ => json!({
            "metadata": {"namespace": "metallb", "labels": {"announcer.io/kind": "claim"}, "annotations": {
                "announcer.io/protocol": "1", "announcer.io/session-uid": "u", "announcer.io/session-epoch": "3",
                "announcer.io/heir": "n/u/1", "announcer.io/preferred": "n", "announcer.io/write": "w",
            }},
            "spec": {
                "holderIdentity": "n", "leaseTransitions": 1, "leaseDurationSeconds": 15,
                "renewTime": "2026-01-01T00:00:00.000000Z", "acquireTime": "2026-01-01T00:00:00.000000Z",
            },
        }),
    };
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    metadata.extend([
        ("name".to_owned(), json!(name)),
        ("uid".to_owned(), json!("8f7d0b5e-0000-4000-8000-000000000001")),
        ("resourceVersion".to_owned(), json!("2")),
        ("generation".to_owned(), json!(1)),
        ("creationTimestamp".to_owned(), json!("2026-01-01T00:00:00Z")),
        (
            "managedFields".to_owned(),
            json!([{
                "manager": "m", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {}}},
            }]),
        ),
    ]);
    let annotations = metadata.entry("annotations").or_insert(json!({}));
    annotations["note"] = json!("n");
    metadata.entry("labels").or_insert(json!({"a": "b"}));
    object
}

/// Changes an object in one place or some. Its name is among what is changed.
pub(super) fn mutate(object: &mut Value, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let paths = places(object);
        let path = &paths[random.below(paths.len())];
        let Some(place) = object.pointer_mut(path) else { continue };
        let new = other(place, random);
        match place {
            Value::Object(members) if random.one_in(2) => {
                members.insert(
                    ["fieldOfTomorrow", "items", "metadata", "status"][random.below(4)].to_owned(),
                    new,
                );
            }
            Value::Array(items) if random.one_in(2) => items.push(new),
            place => *place = new,
        }
    }
}

/// Every place in an object, as a JSON pointer.
fn places(object: &Value) -> Vec<String> {
    fn walk(at: String, value: &Value, places: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| {
                walk(format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), value, places);
            }),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, value)| walk(format!("{at}/{i}"), value, places));
            }
            _ => {}
        }
        places.push(at);
    }
    let mut places = Vec::new();
    walk(String::new(), object, &mut places);
    places
}

/// Another value: mostly of the same type, as a server admits it; else of any.
fn other(value: &Value, random: &mut Random) -> Value {
    const TEXTS: [&str; 14] = [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59.999999Z",
        "0000-01-01T00:00:00Z",
        "2026-02-30T25:61:61+99:99",
        "",
        "-1",
        "99999999999999999999",
        "010.004.011.001",
        "fe80::1%eth0",
        "a/b/c/d",
        "\u{0}\u{202e}\"\\]}",
        "*",
        "\u{10ffff}\n",
        "true",
    ];
    let text = |random: &mut Random| {
        let text = TEXTS[random.below(TEXTS.len())];
        if random.one_in(300) { json!(text.repeat(100_000)) } else { json!(text) }
    };
    let number = |random: &mut Random| {
        let numbers = [
            json!(0),
            json!(-1),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(2_147_483_648_i64),
            json!(1.5),
            json!(1e300),
        ];
        numbers[random.below(numbers.len())].clone()
    };
    match value {
        Value::String(_) if !random.one_in(3) => text(random),
        Value::Number(_) if !random.one_in(3) => number(random),
        Value::Bool(yes) if !random.one_in(3) => json!(!yes),
        _ => match random.below(8) {
            0 => Value::Null,
            1 => json!(true),
            2 => number(random),
            3 => text(random),
            4 => json!([]),
            5 => json!([1, "a", null]),
            6 => json!({"a": {"b": [1]}}),
            _ => (0..random.below(200)).fold(Value::Object(Map::new()), |inner, _| json!({"deep": [inner]})),
        },
    }
}

/// Spoils the text of an object, as no server writes it, within its brackets: what brackets and quotes hold stays where it is.
pub(super) fn spoil(text: &mut [u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(text.len());
        if matches!(text[at], b'"' | b'\\' | b'{' | b'}' | b'[' | b']') {
            continue;
        }
        text[at] =
            [0x00, 0xff, 0xc3, b' ', b'0', b'-', b'e', b'x', b':', b',', b'\r', b'.'][random.below(12)];
    }
}
