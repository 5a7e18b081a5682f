//! A translated template: CloudFormation's intrinsic functions, resolved against what was created. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::aws::{ACCOUNT, REGION};

/// Plain CloudFormation, as the translator prints it.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    document: Value,
    /// Values of the parameters: given ones before defaults.
    parameters: BTreeMap<String, Value>,
    stack: String,
    /// Physical ids by logical id: what `Ref` yields.
    physical: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("the template refers to {0}, which is neither a parameter nor a created resource")]
    UnknownName(String),
    #[error("the template uses {0}, which the local cloud does not know; teach it")]
    UnknownFunction(String),
    #[error("the local cloud does not know the attribute {attribute} of {resource}; teach it")]
    UnknownAttribute { resource: String, attribute: String },
}

/// One resource of the template, properties resolved.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) logical_id: String,
    pub(crate) properties: Value,
}

impl Template {
    /// `parameters` must be a subset of those that the template declares.
    pub(crate) fn new(
        document: Value,
        parameters: &BTreeMap<String, String>,
        stack: &str,
    ) -> Result<Self, TemplateError> {
        let mut values = BTreeMap::new();
        for (name, declaration) in document["Parameters"].as_object().into_iter().flatten() {
            let text = parameters
                .get(name)
                .cloned()
                .or_else(|| scalar(&declaration["Default"]));
            let text = text.ok_or_else(|| TemplateError::UnknownName(name.clone()))?;
            let is_list = declaration["Type"]
                .as_str()
                .is_some_and(|kind| kind.contains("List"));
            let value = if is_list {
                text.split(',')
                    .map(|part| Value::from(part.trim()))
                    .collect()
            } else {
                text.into()
            };
            values.insert(name.clone(), value);
        }
        if let Some(unknown) = parameters.keys().find(|name| !values.contains_key(*name)) {
            return Err(TemplateError::UnknownName(unknown.clone()));
        }
        Ok(Self {
            document,
            parameters: values,
            stack: stack.to_owned(),
            physical: BTreeMap::new(),
        })
    }

    pub(crate) fn set_physical(&mut self, logical_id: &str, physical_id: &str) {
        self.physical
            .insert(logical_id.to_owned(), physical_id.to_owned());
    }

    pub(crate) fn physical(&self, logical_id: &str) -> Option<&str> {
        self.physical.get(logical_id).map(String::as_str)
    }

    pub(crate) fn resources(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.document["Resources"].as_object().into_iter().flatten()
    }

    /// All resources of a type whose condition holds, with their properties resolved.
    pub(crate) fn of_type(&self, kind: &str) -> Result<Vec<Resource>, TemplateError> {
        let mut found = Vec::new();
        for (logical_id, resource) in self
            .resources()
            .filter(|(_, resource)| resource["Type"] == kind)
        {
            if let Some(condition) = resource["Condition"].as_str()
                && !self.condition(condition)?
            {
                continue;
            }
            let properties = self.resolve(&resource["Properties"])?.unwrap_or_default();
            found.push(Resource {
                logical_id: logical_id.clone(),
                properties,
            });
        }
        Ok(found)
    }

    /// `None` stands for `AWS::NoValue`.
    pub(crate) fn resolve(&self, value: &Value) -> Result<Option<Value>, TemplateError> {
        match value {
            Value::Array(items) => {
                let items: Result<Vec<_>, _> =
                    items.iter().map(|item| self.resolve(item)).collect();
                Ok(Some(items?.into_iter().flatten().collect()))
            }
            Value::Object(members) => {
                if let Some((name, argument)) = only_member(members)
                    && (name == "Ref" || name.starts_with("Fn::"))
                {
                    return self.function(name, argument);
                }
                let mut resolved = Map::new();
                for (name, member) in members {
                    if let Some(member) = self.resolve(member)? {
                        resolved.insert(name.clone(), member);
                    }
                }
                Ok(Some(resolved.into()))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Ok(Some(value.clone()))
            }
        }
    }

    fn function(&self, name: &str, argument: &Value) -> Result<Option<Value>, TemplateError> {
        match name {
            "Ref" => self.reference(argument.as_str().unwrap_or_default()),
            "Fn::GetAtt" => {
                let path = match argument.as_array() {
                    Some(parts) => parts
                        .iter()
                        .filter_map(Value::as_str)
                        .collect::<Vec<_>>()
                        .join("."),
                    None => argument.as_str().unwrap_or_default().to_owned(),
                };
                let (resource, attribute) = path.split_once('.').unwrap_or((&path, ""));
                self.attribute(resource, attribute)
                    .map(|value| Some(value.into()))
            }
            "Fn::Sub" => self.substitute(argument).map(|text| Some(text.into())),
            "Fn::Join" => {
                let separator = argument[0].as_str().unwrap_or_default();
                let parts = self.resolve(&argument[1])?.unwrap_or_default();
                let parts: Vec<String> = parts
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(scalar)
                    .collect();
                Ok(Some(parts.join(separator).into()))
            }
            "Fn::If" => {
                let holds = self.condition(argument[0].as_str().unwrap_or_default())?;
                self.resolve(&argument[if holds { 1 } else { 2 }])
            }
            "Fn::Select" => {
                let list = self.resolve(&argument[1])?.unwrap_or_default();
                let index = scalar(&argument[0])
                    .and_then(|index| index.parse::<usize>().ok())
                    .unwrap_or_default();
                Ok(list.get(index).cloned())
            }
            "Fn::Split" => {
                let separator = argument[0].as_str().unwrap_or_default();
                let text = self.resolve(&argument[1])?.unwrap_or_default();
                Ok(Some(
                    text.as_str()
                        .unwrap_or_default()
                        .split(separator)
                        .map(Value::from)
                        .collect(),
                ))
            }
            _ => Err(TemplateError::UnknownFunction(name.to_owned())),
        }
    }

    fn reference(&self, name: &str) -> Result<Option<Value>, TemplateError> {
        let text = match name {
            "AWS::NoValue" => return Ok(None),
            "AWS::Region" => REGION,
            "AWS::AccountId" => ACCOUNT,
            "AWS::Partition" => "aws",
            "AWS::URLSuffix" => "amazonaws.com",
            "AWS::StackName" => &self.stack,
            _ => {
                if let Some(value) = self.parameters.get(name) {
                    return Ok(Some(value.clone()));
                }
                self.physical(name)
                    .ok_or_else(|| TemplateError::UnknownName(name.to_owned()))?
            }
        };
        Ok(Some(text.into()))
    }

    fn substitute(&self, argument: &Value) -> Result<String, TemplateError> {
        let (text, own) = match argument.as_array() {
            Some(parts) => (parts.first(), parts.get(1)),
            None => (Some(argument), None),
        };
        let mut rest = text.and_then(Value::as_str).unwrap_or_default();
        let mut result = String::new();
        while let Some((before, after)) = rest.split_once("${") {
            result.push_str(before);
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            rest = after;
            if let Some(literal) = name.strip_prefix('!') {
                result.push_str(&format!("${{{literal}}}"));
                continue;
            }
            let value = match (own.and_then(|own| own.get(name)), name.split_once('.')) {
                (Some(value), _) => self.resolve(value)?,
                (None, Some((resource, attribute))) => {
                    Some(self.attribute(resource, attribute)?.into())
                }
                (None, None) => self.reference(name)?,
            };
            result.push_str(&value.as_ref().and_then(scalar).unwrap_or_default());
        }
        result.push_str(rest);
        Ok(result)
    }

    fn attribute(&self, resource: &str, attribute: &str) -> Result<String, TemplateError> {
        let id = self
            .physical(resource)
            .ok_or_else(|| TemplateError::UnknownName(resource.to_owned()))?;
        let kind = self.document["Resources"][resource]["Type"]
            .as_str()
            .unwrap_or_default();
        Ok(match (kind, attribute) {
            ("AWS::S3::Bucket", "Arn") => format!("arn:aws:s3:::{id}"),
            ("AWS::Lambda::Function", "Arn") => {
                format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{id}")
            }
            ("AWS::IAM::Role", "Arn") => format!("arn:aws:iam::{ACCOUNT}:role/{id}"),
            ("AWS::KMS::Key", "Arn") => format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/{id}"),
            ("AWS::Logs::LogGroup", "Arn") => {
                format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{id}:*")
            }
            ("AWS::Events::Rule", "Arn") => format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/{id}"),
            ("AWS::SQS::Queue", "Arn") => format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{}", last(id)),
            ("AWS::SQS::Queue", "QueueName") => last(id).to_owned(),
            ("AWS::SNS::Topic", "TopicArn") | ("AWS::StepFunctions::StateMachine", "Arn") => {
                id.to_owned()
            }
            ("AWS::SNS::Topic", "TopicName") => last(id).to_owned(),
            ("AWS::StepFunctions::StateMachine", "Name") => last(id).to_owned(),
            _ => {
                return Err(TemplateError::UnknownAttribute {
                    resource: resource.to_owned(),
                    attribute: attribute.to_owned(),
                });
            }
        })
    }

    fn condition(&self, name: &str) -> Result<bool, TemplateError> {
        let condition = &self.document["Conditions"][name];
        if condition.is_null() {
            return Err(TemplateError::UnknownName(name.to_owned()));
        }
        self.holds(condition)
    }

    fn holds(&self, condition: &Value) -> Result<bool, TemplateError> {
        let Some((name, argument)) = condition.as_object().and_then(only_member) else {
            return Ok(false);
        };
        let all = || {
            argument
                .as_array()
                .into_iter()
                .flatten()
                .map(|condition| self.holds(condition))
        };
        match name.as_str() {
            "Condition" => self.condition(argument.as_str().unwrap_or_default()),
            "Fn::Not" => Ok(!self.holds(&argument[0])?),
            "Fn::And" => all().try_fold(true, |held, next| Ok(held && next?)),
            "Fn::Or" => all().try_fold(false, |held, next| Ok(held || next?)),
            "Fn::Equals" => {
                let (left, right) = (self.resolve(&argument[0])?, self.resolve(&argument[1])?);
                Ok(left.as_ref().and_then(scalar) == right.as_ref().and_then(scalar))
            }
            _ => Err(TemplateError::UnknownFunction(name.clone())),
        }
    }
}

fn only_member(members: &Map<String, Value>) -> Option<(&String, &Value)> {
    members.iter().next().filter(|_| members.len() == 1)
}

/// Text, numbers and booleans as CloudFormation writes them into text.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The last part of an ARN or a URL.
fn last(id: &str) -> &str {
    id.rsplit([':', '/']).next().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(parameters: &[(&str, &str)]) -> Template {
        let document = json!({
            "Parameters": {"Email": {"Type": "String", "Default": ""}, "Days": {"Type": "Number", "Default": 7},
                "Subnets": {"Type": "CommaDelimitedList", "Default": ""}},
            "Conditions": {"HasEmail": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Email"}, ""]}]},
                "InNetwork": {"Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "Subnets"}]}, ""]}]}},
            "Resources": {
                "Bucket": {"Type": "AWS::S3::Bucket"},
                "Subscription": {"Type": "AWS::SNS::Subscription", "Condition": "HasEmail", "Properties": {"To": {"Ref": "Email"}}},
            },
        });
        let parameters = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut template = Template::new(document, &parameters, "lifeboat").unwrap();
        template.set_physical("Bucket", "lifeboat-vault");
        template
    }

    #[test]
    fn references_attributes_and_substitutions_are_resolved() {
        let value = json!({"a": {"Fn::Sub": "${Bucket.Arn}/backups/*"}, "b": {"Ref": "Days"},
            "c": {"Fn::Sub": ["${!x}-${Own}-${AWS::StackName}", {"Own": {"Ref": "Bucket"}}]}});
        let resolved = template(&[]).resolve(&value).unwrap().unwrap();
        let expected = json!({"a": "arn:aws:s3:::lifeboat-vault/backups/*", "b": "7", "c": "${x}-lifeboat-vault-lifeboat"});
        assert_eq!(resolved, expected);
    }

    #[test]
    fn a_value_that_is_no_value_leaves_nothing_behind() {
        let value = json!({"a": {"Fn::If": ["InNetwork", {"x": 1}, {"Ref": "AWS::NoValue"}]}, "b": [{"Ref": "AWS::NoValue"}, 1]});
        assert_eq!(
            template(&[]).resolve(&value).unwrap().unwrap(),
            json!({"b": [1]})
        );
        let resolved = template(&[("Subnets", "subnet-1,subnet-2")])
            .resolve(&value)
            .unwrap()
            .unwrap();
        assert_eq!(resolved, json!({"a": {"x": 1}, "b": [1]}));
    }

    #[test]
    fn a_resource_whose_condition_fails_is_not_there() {
        let kind = "AWS::SNS::Subscription";
        assert!(template(&[]).of_type(kind).unwrap().is_empty());
        let found = template(&[("Email", "a@b")]).of_type(kind).unwrap();
        assert_eq!(found[0].properties, json!({"To": "a@b"}));
    }

    #[test]
    fn an_unknown_parameter_is_refused() {
        let parameters = BTreeMap::from([("Nightly".to_owned(), "x".to_owned())]);
        let refused = Template::new(json!({"Parameters": {}}), &parameters, "s");
        assert!(matches!(refused, Err(TemplateError::UnknownName(name)) if name == "Nightly"));
    }
}
