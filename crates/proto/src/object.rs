//! Messages in JSON are objects.
//!
//! serde's derived readers take an array for a struct as well, value by value in the order of its
//! fields; the JSON form of protobuf does not, at no depth. So the generated code keeps what is
//! derived to itself, and a message is read through [`Object`].

use serde::Deserializer;
use serde::de::Visitor;
use serde::forward_to_deserialize_any;

/// Reads an object, whatever kind of value is asked for.
#[derive(Debug)]
pub(crate) struct Object<D>(pub(crate) D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Object<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// The JSON form of a message whose derived one is its own (`#[serde(remote = "Self")]`).
macro_rules! object_in_json {
    ($message:ident) => {
        impl<'de> ::serde::Deserialize<'de> for $message {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Self::deserialize($crate::object::Object(from))
            }
        }

        impl ::serde::Serialize for $message {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, to)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use crate::public::push::v1::PushRequest;
    use crate::public::querier::v1::{DiffRequest, SelectMergeStacktracesRequest};
    use crate::public::types::v1::GetProfileStatsRequest;

    #[test]
    fn an_array_is_no_message_at_any_depth() {
        let read = serde_json::from_str::<SelectMergeStacktracesRequest>;
        let site = r#"{"stackTraceSelector": {"callSite": [{"name": "main"}], "goPgo": null}}"#;
        let selector = read(site).unwrap().stack_trace_selector;
        assert_eq!(selector.call_site[0].name, "main");
        for bad in [
            r#"["cpu"]"#,
            r#"{"stackTraceSelector": [[{"name": "main"}]]}"#,
            r#"{"stackTraceSelector": {"callSite": [["main"]]}}"#,
            r#"{"stackTraceSelector": {"goPgo": [5, true]}}"#,
            r#"{"async": ["id"]}"#,
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("invalid type: sequence"), "{bad}: {error}");
        }
        assert!(serde_json::from_str::<DiffRequest>(r#"{"left": ["cpu"]}"#).is_err());
        let pushed = r#"{"series": [{"labels": [["service_name", "shop"]]}]}"#;
        assert!(serde_json::from_str::<PushRequest>(pushed).is_err());
        // Messages without fields, too.
        assert!(serde_json::from_str::<GetProfileStatsRequest>("{}").is_ok());
        assert!(serde_json::from_str::<GetProfileStatsRequest>("[]").is_err());
    }
}
