// Package enginetest is the contract of engine.Engine as a test that every
// engine runs.
//
// Test checks everything that needs no time to pass; TestTime, which runs in a
// bubble of testing/synctest, checks what expires; TestRandom compares random
// work, with crashes in it, with a simple model.
package enginetest

import (
	"testing"

	"github.com/keepmq/keepmq/internal/engine"
)

// A Store is where an engine keeps its data. It outlives the engine.
type Store interface {
	// Open opens an engine on what is there. At most one is open at a time.
	Open(t *testing.T) engine.Engine
	// Close closes the open engine.
	Close(t *testing.T)
	// Crash ends the open engine as a power cut does: what it did not sync is gone.
	Crash(t *testing.T)
}

// Test runs the contract test. newStore returns an empty store, whose limits
// are Limits.
func Test(t *testing.T, newStore func(t *testing.T) Store) {
	tests := []struct {
		name string
		run  func(*testing.T, Store)
	}{
		{"Isolation", testIsolation},
		{"Order", testOrder},
		{"MatchOnce", testMatchOnce},
		{"NoLocal", testNoLocal},
		{"RetainAsPublished", testRetainAsPublished},
		{"EffectiveQoS", testEffectiveQoS},
		{"Unsubscribe", testUnsubscribe},
		{"Resubscribe", testResubscribe},
		{"OtherOrganisation", testOtherOrganisation},
		{"WithoutSession", testWithoutSession},
		{"Content", testContent},
		{"Concurrent", testConcurrent},

		{"SharedBalance", testSharedBalance},
		{"SharedPrefersHeld", testSharedPrefersHeld},
		{"SharedOffline", testSharedOffline},
		{"SharedOwners", testSharedOwners},
		{"SharedFull", testSharedFull},
		{"SharedLeave", testSharedLeave},

		{"Retained", testRetained},
		{"RetainedWildcards", testRetainedWildcards},
		{"RetainedPending", testRetainedPending},
		{"RetainedKept", testRetainedKept},
		{"RetainedQoS0", testRetainedQoS0},
		{"RetainedQueued", testRetainedQueued},
		{"RetainedQueuedWhen", testRetainedQueuedWhen},
		{"RetainedQueuedKept", testRetainedQueuedKept},
		{"RetainedQueuedMany", testRetainedQueuedMany},
		{"RetainedQueuedFull", testRetainedQueuedFull},
		{"RetainedQueuedOrder", testRetainedQueuedOrder},
		{"RetainedQueuedCleared", testRetainedQueuedCleared},
		{"RetainedQueuedLost", testRetainedQueuedLost},

		{"QueueKept", testQueueKept},
		{"QueueBehind", testQueueBehind},
		{"SubscriptionsKept", testSubscriptionsKept},
		{"OffsetsNotReused", testOffsetsNotReused},
		{"SharedPayload", testSharedPayload},
		{"Sent", testSent},
		{"SentAfterClose", testSentAfterClose},
		{"NotPersistent", testNotPersistent},
		{"QueueFull", testQueueFull},
		{"QueueLimitOfClaim", testQueueLimitOfClaim},

		{"ReceivedKept", testReceivedKept},
		{"ReceivedOnce", testReceivedOnce},
		{"ReceivedAtOnce", testReceivedAtOnce},
		{"ReceivedTakeOver", testReceivedTakeOver},
		{"Forget", testForget},
		{"Release", testRelease},

		{"TakeOver", testTakeOver},
		{"TakeOverRace", testTakeOverRace},
		{"Clean", testClean},
		{"ExpiryZero", testExpiryZero},
		{"Drop", testDrop},
		{"DropOrganisation", testDropOrganisation},
		{"DropKept", testDropKept},
		{"UID", testUID},
		{"Lost", testLost},
		{"Closed", testClosed},
		{"Wills", testWills},
		{"WillsAfterCrash", testWillsAfterCrash},
		{"Stats", testStats},

		{"QueueBytes", testQueueBytes},
		{"EndWhenFull", testEndWhenFull},
		{"EndWhenFullRefused", testEndWhenFullRefused},
		{"EndWhenFullShared", testEndWhenFullShared},
		{"EndWhenFullItself", testEndWhenFullItself},
		{"EndWhenFullWill", testEndWhenFullWill},
		{"EndWhenFullRace", testEndWhenFullRace},
		{"OrgSessions", testOrgSessions},
		{"OrgSubscriptions", testOrgSubscriptions},
		{"OrgQueue", testOrgQueue},
		{"OrgQueueBytes", testOrgQueueBytes},
		{"OrgQueueGone", testOrgQueueGone},
		{"OrgRetained", testOrgRetained},
		{"OrgRetainedBytes", testOrgRetainedBytes},
		{"OrgLimitsRace", testOrgLimitsRace},
		{"OrgLimitsDrop", testOrgLimitsDrop},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStore(t)) })
	}
}

// Limits are the limits that the stores under test have to have.
var Limits = struct{ Queue int }{Queue: 1000}
