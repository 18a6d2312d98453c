package conformance

// table311Publish is the part of MQTT 3.1.1 about messages and their acknowledgement: chapters 3.3 to 3.7 and 4.3 to 4.6.
var table311Publish = []statement{
	shown("3.3.1-1", "A PUBLISH that is sent again has DUP set.", "TestUnacknowledgedIsSentAgain"),
	shown("3.3.1-2", "DUP is 0 with QoS 0.", "TestBadPublishFlags"),
	shown("3.3.1-3", "DUP towards the receiver does not depend on DUP from the sender.", "TestDupIsOfOneHop"),
	shown("3.3.1-4", "QoS 3 ends the connection.", "TestBadPublishFlags"),
	shown("3.3.1-5", "A message with RETAIN is kept with its QoS for later subscribers.", "TestRetainedMessageIsReplaced"),
	shown("3.3.1-6", "A new subscription is sent the retained messages that match.", "TestRetainedMessageIsReplaced"),
	shown("3.3.1-7", "A message of QoS 0 with RETAIN discards the retained message of its topic.", "TestRetainedMessageIsReplaced"),
	shown("3.3.1-8", "A retained message that is sent because of a new subscription has RETAIN set.", "TestRetainedMessageIsReplaced"),
	shown("3.3.1-9", "A message that is sent to an existing subscription has RETAIN 0.", "TestRetainAsPublished", "TestEmptyRetainedMessageRemoves"),
	shown("3.3.1-10", "An empty message with RETAIN is delivered and removes the retained message of its topic.", "TestEmptyRetainedMessageRemoves"),
	shown("3.3.1-11", "An empty message is not kept as a retained message.", "TestEmptyRetainedMessageRemoves"),
	shown("3.3.1-12", "A message without RETAIN neither becomes, removes nor replaces a retained message.", "TestRetainedMessageIsReplaced"),
	shown("3.3.2-1", "The topic name is the first field after the fixed header, and is UTF-8 text.", "TestBadTopicNames"),
	shown("3.3.2-2", "The topic name has no wildcards.", "TestBadTopicNames"),
	shown("3.3.2-3", "The topic name of a message to a client matches the filter of its subscription.", "TestTopicNameOfDelivery"),
	shown("3.3.4-1", "A PUBLISH is answered as its QoS demands.", "TestPublishIsAnswered"),
	shown("3.3.5-1", "A message that matches several subscriptions of a client is delivered with the highest QoS of them.", "TestOverlappingSubscriptions"),
	shown("3.3.5-2", "A client that may not publish is answered as its QoS demands, or disconnected.", "TestRefusedPublish"),

	shown("3.6.1-1", "The flags of PUBREL are 0010; others end the connection.", "TestBadReleaseFlags"),

	shown("4.3.1-1", "A message of QoS 0 is sent with QoS 0 and without DUP.", "TestMessagesOfServer"),
	shown("4.3.2-1", "The sender of QoS 1 uses an unused identifier, sends without DUP, and waits for PUBACK.", "TestMessagesOfServer", "TestUnacknowledgedIsSentAgain"),
	shown("4.3.2-2", "The receiver of QoS 1 answers with PUBACK when it has taken the message over, and takes the identifier for a new message after that.", "TestPublishIsAnswered", "TestIdentifierIsFreeAfterPuback"),
	shown("4.3.3-1", "The sender of QoS 2 uses an unused identifier, sends without DUP, answers PUBREC with PUBREL, waits for PUBCOMP, and does not send the PUBLISH again after PUBREL.", "TestMessagesOfServer", "TestReleaseIsSentAgain"),
	shown("4.3.3-2", "The receiver of QoS 2 answers with PUBREC, delivers once until PUBREL, answers PUBREL with PUBCOMP, and takes the identifier for a new message after that.", "TestPublishIsAnswered", "TestExactlyOnce"),

	shown("4.4.0-1", "A session that is resumed sends unacknowledged PUBLISH and PUBREL again with their identifiers.", "TestUnacknowledgedIsSentAgain", "TestReleaseIsSentAgain"),

	shown("4.5.0-1", "A message that the server takes over is added to the sessions whose subscriptions match.", "TestMessageReachesAllSessions"),
	clientOnly("4.5.0-2", "A client acknowledges every message that it receives."),

	shown("4.6.0-1", "Messages that are sent again keep their order.", "TestUnacknowledgedIsSentAgain"),
	shown("4.6.0-2", "PUBACKs are sent in the order of the messages.", "TestAcknowledgementsAreInOrder"),
	shown("4.6.0-3", "PUBRECs are sent in the order of the messages.", "TestAcknowledgementsAreInOrder"),
	shown("4.6.0-4", "PUBRELs are sent in the order of the PUBRECs.", "TestReleaseIsSentAgain"),
	shown("4.6.0-5", "Every topic is ordered.", "TestMessagesAreInOrder"),
	shown("4.6.0-6", "Messages of one client on one topic with one QoS are delivered in their order.", "TestMessagesAreInOrder"),
}
