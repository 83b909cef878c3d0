package queue

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// Nominate remembers that preemption makes room for the Pod on node, so that
// Pods of lower priority do not take it. An empty node forgets.
func (q *Queue) Nominate(info *framework.PodInfo, node string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, waiting := q.pods[info.Pod.UID]; waiting || node == "" {
		q.nominate(info, node)
	}
}

func (q *Queue) nominate(info *framework.PodInfo, node string) {
	uid := info.Pod.UID
	q.unnominate(uid)
	if node == "" {
		return
	}
	if q.nominees[node] == nil {
		q.nominees[node] = map[types.UID]*framework.PodInfo{}
	}
	q.nominees[node][uid] = info
	q.nominated[uid] = node
}

func (q *Queue) unnominate(uid types.UID) {
	node, ok := q.nominated[uid]
	if !ok {
		return
	}
	delete(q.nominated, uid)
	delete(q.nominees[node], uid)
	if len(q.nominees[node]) == 0 {
		delete(q.nominees, node)
	}
}

// Nominated is the node that preemption makes room on for the Pod, or "".
func (q *Queue) Nominated(uid types.UID) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.nominated[uid]
}

// Nominees are the waiting Pods that must find room, by node; those the Pod
// itself does not have to give way to (lower priority, itself) are left out.
func (q *Queue) Nominees(info *framework.PodInfo) map[string][]*framework.PodInfo {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.nominees) == 0 {
		return nil
	}
	var before map[string][]*framework.PodInfo
	for node, pods := range q.nominees {
		for uid, p := range pods {
			if uid == info.Pod.UID || priority(p.Pod) < priority(info.Pod) {
				continue
			}
			if before == nil {
				before = map[string][]*framework.PodInfo{}
			}
			before[node] = append(before[node], p)
		}
	}
	return before
}
