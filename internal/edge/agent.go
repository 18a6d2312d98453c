// Package edge is the agent.
package edge
