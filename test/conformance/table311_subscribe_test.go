package conformance

// table311Subscribe is the part of MQTT 3.1.1 about subscriptions, topics and errors: chapters 3.8 to 3.11, 4.7 and 4.8.
var table311Subscribe = []statement{
	shown("3.8.1-1", "The flags of SUBSCRIBE are 0010; others end the connection.", "TestReservedFlags"),
	shown("3.8.3-1", "Topic filters are UTF-8 text.", "TestIllFormedText"),
	untested("3.8.3-2", "A server that does not support wildcards refuses filters that have any.", "we support wildcards"),
	shown("3.8.3-3", "SUBSCRIBE has at least one topic filter with its QoS.", "TestNoFilter"),
	shown("3.8.3-4", "Reserved bits next to the QoS, and QoS 3, end the connection.", "TestBadSubscriptionOptions"),
	shown("3.8.4-1", "SUBSCRIBE is answered with SUBACK.", "TestSubscribeIsAnswered"),
	shown("3.8.4-2", "SUBACK has the packet identifier of its SUBSCRIBE.", "TestSubscribeIsAnswered"),
	shown("3.8.4-3", "A filter that is subscribed to already replaces its subscription; retained messages are sent again and no message is lost.", "TestSubscribingAgain", "internal/broker.TestRetainedBeforeLive"),
	shown("3.8.4-4", "Several filters in one SUBSCRIBE are handled as if they came one by one, with one SUBACK.", "TestSubscribeIsAnswered"),
	shown("3.8.4-5", "SUBACK has a return code for each filter: the QoS that is granted, or a failure.", "TestSubscribeIsAnswered"),
	shown("3.8.4-6", "Messages are delivered with the lower of their QoS and the one granted.", "TestGrantedQoS"),

	shown("3.9.3-1", "The return codes stand in the order of the filters.", "TestSubscribeIsAnswered"),
	shown("3.9.3-2", "The return codes are 0x00, 0x01, 0x02 or 0x80.", "TestSubscribeIsAnswered"),

	shown("3.10.1-1", "The flags of UNSUBSCRIBE are 0010; others end the connection.", "TestReservedFlags"),
	shown("3.10.3-1", "The topic filters of UNSUBSCRIBE are UTF-8 text.", "TestIllFormedText"),
	shown("3.10.3-2", "UNSUBSCRIBE has at least one topic filter.", "TestNoFilter"),
	shown("3.10.4-1", "Filters are compared byte by byte, and one that is the same ends its subscription.", "TestUnsubscribe"),
	shown("3.10.4-2", "No new messages are added for a filter that is unsubscribed from.", "TestUnsubscribe"),
	shown("3.10.4-3", "Messages whose delivery has begun are delivered to the end.", "TestUnsubscribeEndsNoDelivery"),
	shown("3.10.4-4", "UNSUBSCRIBE is answered with an UNSUBACK of its packet identifier.", "TestUnsubscribe"),
	shown("3.10.4-5", "UNSUBACK comes even if no subscription was there.", "TestUnsubscribe"),
	shown("3.10.4-6", "Several filters in one UNSUBSCRIBE are handled as if they came one by one, with one UNSUBACK.", "TestUnsubscribe"),

	shown("4.7.1-1", "Wildcards are for topic filters and not for topic names.", "TestWildcardsInFilters", "TestBadTopicNames"),
	shown("4.7.1-2", "# stands alone or after a separator, and last.", "TestWildcardsInFilters"),
	shown("4.7.1-3", "+ fills a whole level.", "TestWildcardsInFilters"),
	shown("4.7.2-1", "Filters that begin with a wildcard do not match topic names that begin with $.", "TestDollarTopics"),
	shown("4.7.3-1", "Topic names and filters have at least one character.", "TestNoFilter", "TestBadTopicNames"),
	shown("4.7.3-2", "Topic names and filters hold no U+0000.", "TestNULInText"),
	shown("4.7.3-3", "Topic names and filters have at most 65,535 bytes.", "TestLongestTopic", "TestThousandsOfLevels"),
	shown("4.7.3-4", "Topic names and filters are matched as they are, without normalisation.", "TestTopicsAreNotNormalised"),

	shown("4.8.0-1", "A breach of the protocol ends the connection on which it came.",
		"TestTruncatedPackets", "TestPacketTypesOfNoClient", "TestLongNumbers"),
	shown("4.8.0-2", "A packet that cannot be served for a passing reason ends the connection on which it came.", "internal/broker.TestEngineRefuses"),
}
