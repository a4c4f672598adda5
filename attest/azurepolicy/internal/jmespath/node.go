package jmespath

// node is one of the types below.
type node any

type (
	current struct{}
	field   struct{ name string }
	index   struct {
		left node
		i    int
	}
	literal struct{ v any }
	// sub evaluates right over the result of left; a pipe is the same, and ends
	// projections by its place in the tree.
	sub        struct{ left, right node }
	projection struct{ left, right node }
	valuesOf   struct{ left, right node } // projection over the members of an object
	filter     struct{ left, right, cond node }
	flatten    struct{ left node }
	either     struct{ left, right node }
	both       struct{ left, right node }
	not        struct{ x node }
	compare    struct {
		op          string
		left, right node
	}
	list struct{ items []node }
	hash struct {
		names []string
		items []node
	}
	call struct {
		fn   function
		args []node
	}
)
