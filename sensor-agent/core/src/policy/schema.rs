//! The JSON Schema of the policy file, as published in `deploy/policy.schema.json`: editors complete and check a policy by it.

use super::raw::RawPolicy;

/// Makes the schema from the types that the file is read into.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(RawPolicy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_current() {
        let published = include_str!("../../../../deploy/policy.schema.json");
        let current = serde_json::to_string_pretty(&schema()).expect("a schema is JSON");
        assert!(published.trim_end() == current, "run: cargo xtask codegen");
    }

    #[test]
    fn every_field_is_described() {
        let schema = serde_json::to_value(schema()).expect("a schema is JSON");
        let kinds = schema["$defs"].as_object().expect("kinds").values();
        for kind in kinds.chain([&schema]) {
            assert_eq!(kind["additionalProperties"], false, "{kind:#}");
            for (name, field) in kind["properties"].as_object().expect("fields") {
                assert!(field["description"].is_string(), "{name} {field:#}");
            }
        }
        let reset = &schema["$defs"]["RawRule"]["properties"]["action"]["enum"][1];
        assert_eq!(*reset, "reset");
    }
}
