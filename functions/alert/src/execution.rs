//! Where a person finds the execution, and how a new one is started.

use shared::redact::redact;

/// The parts of an execution's ARN, or what was given in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Execution<'a> {
    Known {
        arn: &'a str,
        partition: &'a str,
        region: &'a str,
        account: &'a str,
        machine: &'a str,
    },
    Unknown(&'a str),
}

impl<'a> Execution<'a> {
    pub(crate) fn read(arn: &'a str) -> Self {
        let is_plain = |part: &&str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !part.is_empty() && part.chars().all(allowed)
        };
        let parts: Vec<&str> = arn.split(':').collect();
        match parts.as_slice() {
            &[
                "arn",
                partition,
                "states",
                region,
                account,
                "execution",
                machine,
                _name,
            ] if parts.iter().all(is_plain) => Self::Known {
                arn,
                partition,
                region,
                account,
                machine,
            },
            _ => Self::Unknown(arn),
        }
    }

    pub(crate) fn is_watch(&self) -> bool {
        matches!(self, Self::Known { machine, .. } if machine.ends_with("watch"))
    }

    /// The page of the AWS console.
    pub(crate) fn link(&self) -> String {
        match self {
            Self::Known {
                arn,
                partition,
                region,
                ..
            } => {
                let console = match *partition {
                    "aws-cn" => "console.amazonaws.cn",
                    "aws-us-gov" => "console.amazonaws-us-gov.com",
                    _ => "console.aws.amazon.com",
                };
                format!(
                    "https://{region}.{console}/states/home?region={region}#/v2/executions/details/{arn}"
                )
            }
            Self::Unknown(given) => redact(given),
        }
    }

    /// Calls a function of the same stack.
    pub(crate) fn invoke_command(&self, function: &str, event: &str) -> String {
        let name = match self {
            Self::Known {
                region, machine, ..
            } => {
                let stack = machine.rsplit_once('-').map_or(*machine, |it| it.0);
                format!("{stack}-{function} --region {region}")
            }
            Self::Unknown(_) => format!("<the stack>-{function}"),
        };
        format!(
            "aws lambda invoke --function-name {name} --cli-binary-format raw-in-base64-out --payload '{event}' /dev/stdout"
        )
    }

    /// Starts the same state machine anew.
    pub(crate) fn start_command(&self, input: &str) -> String {
        let machine = match self {
            Self::Known {
                partition,
                region,
                account,
                machine,
                ..
            } => format!(
                "arn:{partition}:states:{region}:{account}:stateMachine:{machine} --region {region}"
            ),
            Self::Unknown(_) => "<its ARN>".to_owned(),
        };
        format!("aws stepfunctions start-execution --state-machine-arn {machine} --input '{input}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_leads_to_the_regions_console() {
        for (arn, expected) in [
            (
                "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-backup:a-1",
                "https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/arn:aws:states:eu-central-1:123456789012:execution:lifeboat-backup:a-1",
            ),
            (
                "arn:aws-cn:states:cn-north-1:1:execution:m:a",
                "https://cn-north-1.console.amazonaws.cn/states/home?region=cn-north-1#/v2/executions/details/arn:aws-cn:states:cn-north-1:1:execution:m:a",
            ),
            ("started by hand", "started by hand"),
            (
                "arn:aws:states:evil.example/:1:execution:m:a",
                "arn:aws:states:evil.example/:1:execution:m:a",
            ),
        ] {
            assert_eq!(Execution::read(arn).link(), expected);
        }
    }
}
