//! Everything that is published to the template's topics, kept for whoever asks.

use serde_json::{Value, json};

use crate::aws::{ACCOUNT, Aws, AwsError, REGION};

const QUEUE: &str = "localcloud-inbox";

/// One published message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic_arn: String,
    pub subject: Option<String>,
    pub text: String,
}

/// A queue that is subscribed to every topic.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue_url: String,
    read: tokio::sync::Mutex<Vec<Message>>,
}

impl Inbox {
    pub(crate) async fn open(aws: &Aws, topics: &[String]) -> Result<Self, AwsError> {
        let created = aws
            .json("sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": QUEUE}))
            .await?;
        let queue_url = created["QueueUrl"].as_str().unwrap_or_default().to_owned();
        let queue_arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}");
        for topic in topics {
            let subscribe = [
                ("Action", "Subscribe"),
                ("TopicArn", topic),
                ("Protocol", "sqs"),
                ("Endpoint", &queue_arn),
            ];
            aws.query("sns", "2010-03-31", &subscribe).await?;
        }
        Ok(Self {
            queue_url,
            read: tokio::sync::Mutex::default(),
        })
    }

    /// Reads what has arrived since the last call, and returns everything so far.
    pub(crate) async fn all(&self, aws: &Aws) -> Result<Vec<Message>, AwsError> {
        let mut read = self.read.lock().await;
        loop {
            let request = json!({"QueueUrl": self.queue_url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0});
            let answer = aws
                .json("sqs", "AmazonSQS.ReceiveMessage", &request)
                .await?;
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                return Ok(read.clone());
            }
            for message in messages {
                let request =
                    json!({"QueueUrl": self.queue_url, "ReceiptHandle": message["ReceiptHandle"]});
                aws.json("sqs", "AmazonSQS.DeleteMessage", &request).await?;
                let envelope: Value =
                    serde_json::from_str(message["Body"].as_str().unwrap_or_default())
                        .unwrap_or_default();
                let text = |name: &str| envelope[name].as_str().map(str::to_owned);
                read.push(Message {
                    topic_arn: text("TopicArn").unwrap_or_default(),
                    subject: text("Subject"),
                    text: text("Message").unwrap_or_default(),
                });
            }
        }
    }
}
