package topic

import (
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"swarmnode/content"
)

// maxSubscriptions is how many topics a peer can be subscribed to as far as this node remembers.
const maxSubscriptions = 256

// subscriptions admits topics of collections only, and a limited number of each peer, because pubsub remembers them all.
type subscriptions struct {
	net      network.Network
	notifiee *network.NotifyBundle

	mu   sync.Mutex // guards have
	have map[peer.ID]map[string]bool
}

func newSubscriptions(net network.Network) *subscriptions {
	s := &subscriptions{net: net, have: map[peer.ID]map[string]bool{}}
	s.notifiee = &network.NotifyBundle{DisconnectedF: func(net network.Network, c network.Conn) {
		if net.Connectedness(c.RemotePeer()) != network.Connected {
			s.mu.Lock()
			delete(s.have, c.RemotePeer())
			s.mu.Unlock()
		}
	}}
	net.Notify(s.notifiee)
	return s
}

func (s *subscriptions) close() { s.net.StopNotify(s.notifiee) }

// CanSubscribe reports whether a topic is that of a collection.
func (s *subscriptions) CanSubscribe(topic string) bool {
	if len(topic) <= len(topicPrefix) || topic[:len(topicPrefix)] != topicPrefix {
		return false
	}
	id, err := content.ParseID(topic[len(topicPrefix):])
	return err == nil && topicPrefix+id.String() == topic
}

// FilterIncomingSubscriptions lets through what a peer may subscribe to.
func (s *subscriptions) FilterIncomingSubscriptions(from peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	if len(subs) > maxSubscriptions {
		return nil, pubsub.ErrTooManySubscriptions
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.have[from]
	if have == nil {
		have = map[string]bool{}
		s.have[from] = have
	}
	return pubsub.FilterSubscriptions(subs, func(topic string) bool {
		if !s.CanSubscribe(topic) || len(have) >= maxSubscriptions && !have[topic] {
			return false
		}
		have[topic] = true // leaving a topic frees no room: who needs more than these is no mirror
		return true
	}), nil
}
